# Defines mla::libtorch: the CPU part of LibTorch, found in MLA_LIBTORCH, in $ENV{LIBTORCH}, or where
# cmake/fetch_libtorch.sh unpacks the wheel. libtorch_cpu and libc10 are linked directly, because the wheel's own
# package file asks for a CUDA toolkit that nothing here needs.
set(mla_torch_named ${MLA_LIBTORCH} $ENV{LIBTORCH})
if(mla_torch_named)
  list(GET mla_torch_named 0 mla_torch_place)
else()
  set(mla_torch_place ${CMAKE_SOURCE_DIR}/build/libtorch)
endif()
set(mla_torch_root)
foreach(folder ${mla_torch_place} ${mla_torch_place}/torch)
  if(NOT mla_torch_root AND EXISTS ${folder}/lib/libtorch_cpu.so)
    set(mla_torch_root ${folder})
  endif()
endforeach()
if(NOT mla_torch_root)
  message(FATAL_ERROR "${mla_torch_place} holds no LibTorch: neither lib/libtorch_cpu.so nor torch/lib/libtorch_cpu.so. "
    "Run `make setup`, or name one >= 2.6 with LIBTORCH=/path.")
endif()

set(mla_torch_version_lines)
foreach(header torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
  if(NOT mla_torch_version_lines AND EXISTS ${mla_torch_root}/include/${header})
    file(STRINGS ${mla_torch_root}/include/${header} mla_torch_version_lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
  endif()
endforeach()
string(REGEX REPLACE "[^0-9;]" "" mla_torch_version "${mla_torch_version_lines}")
string(REPLACE ";" "." mla_torch_version "${mla_torch_version}")
if(NOT mla_torch_version)
  message(FATAL_ERROR "LibTorch in ${mla_torch_root} has no include/torch/csrc/api/include/torch/version.h: its headers are needed too.")
endif()
if(mla_torch_version VERSION_LESS 2.6)
  message(FATAL_ERROR "LibTorch in ${mla_torch_root} is ${mla_torch_version}; 2.6 or later is needed.")
endif()
# c10::Error's constructor takes a std::string, which the older C++ ABI (PyPI's wheels up to 2.6) spells otherwise: nothing
# compiled for Debian's libraries could be linked with it.
file(STRINGS ${mla_torch_root}/lib/libc10.so mla_torch_old_abi LIMIT_COUNT 1 REGEX "^_ZN3c105ErrorC1ENS_14SourceLocationESs$")
if(mla_torch_old_abi)
  message(FATAL_ERROR "LibTorch in ${mla_torch_root} is built for the C++ ABI before C++11; take the cxx11-abi build, or 2.7 or later.")
endif()
message(STATUS "LibTorch ${mla_torch_version} in ${mla_torch_root}")

add_library(mla_libtorch INTERFACE)
add_library(mla::libtorch ALIAS mla_libtorch)
target_include_directories(mla_libtorch SYSTEM INTERFACE
  ${mla_torch_root}/include ${mla_torch_root}/include/torch/csrc/api/include)
# Its own OpenMP runtime, where it brings one: a process should not hold two.
file(GLOB mla_torch_openmp ${mla_torch_root}/lib/libgomp*.so*)
# After the runtime, so that it is made ready before it: see the file.
add_library(mla_startup SHARED ${CMAKE_SOURCE_DIR}/core/startup/bounded_spin.cpp
  ${CMAKE_SOURCE_DIR}/core/startup/same_bytes.cpp)
target_link_libraries(mla_libtorch INTERFACE ${mla_torch_root}/lib/libtorch_cpu.so ${mla_torch_root}/lib/libc10.so
  $<IF:$<BOOL:${mla_torch_openmp}>,${mla_torch_openmp},gomp>
  -Wl,--push-state,--no-as-needed mla_startup -Wl,--pop-state)
# The wheel's libtorch_cpu needs small CUDA libraries by name, which lie beside it and which it finds itself when run.
file(GLOB mla_torch_runtime LIST_DIRECTORIES true ${mla_torch_root}/../nvidia/*/lib)
list(TRANSFORM mla_torch_runtime PREPEND -Wl,-rpath-link,)
target_link_options(mla_libtorch INTERFACE ${mla_torch_runtime})
