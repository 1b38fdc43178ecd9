# What `make install PREFIX=/path` and `make deb` put where. LibTorch comes along, into lib/mlaforge, where the installed
# program looks for it by a path relative to itself: the folder may be moved, and no other LibTorch is needed.
option(MLA_INSTALL_LIBTORCH "Install LibTorch beside the program; OFF: lib/mlaforge/torch must be put there otherwise" ON)
set(mla_private lib/mlaforge)
set_target_properties(mlaforge mla_startup PROPERTIES
  INSTALL_RPATH "$ORIGIN/../${mla_private}/torch/lib:$ORIGIN/../${mla_private}")
install(TARGETS mlaforge mlaforge-report RUNTIME DESTINATION bin COMPONENT programs)
install(TARGETS mla_startup LIBRARY DESTINATION ${mla_private} COMPONENT programs)
install(FILES LICENSE NOTICE README.md CHANGELOG.md DESTINATION share/doc/mlaforge COMPONENT programs)
install(DIRECTORY docs configs DESTINATION share/doc/mlaforge COMPONENT programs PATTERN gallery EXCLUDE)

# Both programs describe themselves: completion for three shells, and man pages.
set(mla_programs ${CMAKE_BINARY_DIR}/mlaforge ${CMAKE_BINARY_DIR}/mlaforge-report)
install(CODE "set(described \"${mla_programs}\")" COMPONENT programs)
install(CODE [[
  set(share "$ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}/share")
  file(MAKE_DIRECTORY ${share}/man/man1 ${share}/bash-completion/completions ${share}/zsh/site-functions
    ${share}/fish/vendor_completions.d)
  foreach(program ${described})
    get_filename_component(name ${program} NAME)
    foreach(target "bash|bash-completion/completions/${name}" "zsh|zsh/site-functions/_${name}"
                   "fish|fish/vendor_completions.d/${name}.fish")
      string(REPLACE "|" ";" target ${target})
      list(GET target 0 shell)
      list(GET target 1 file)
      execute_process(COMMAND ${program} completion ${shell} OUTPUT_FILE ${share}/${file} COMMAND_ERROR_IS_FATAL ANY)
    endforeach()
    execute_process(COMMAND ${program} reference ${share}/man/man1 --format man OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
  endforeach()
]] COMPONENT programs)

if(MLA_INSTALL_LIBTORCH)
  # By the layout of the wheel, by which libtorch_cpu finds the small libraries beside it.
  file(GLOB mla_torch_libraries ${mla_torch_root}/lib/*.so*)
  install(FILES ${mla_torch_libraries} DESTINATION ${mla_private}/torch/lib COMPONENT libtorch)
  file(GLOB mla_torch_helpers ${mla_torch_root}/../nvidia/*/lib/*.so*)
  foreach(helper ${mla_torch_helpers})
    file(REAL_PATH ${mla_torch_root}/.. place)
    file(RELATIVE_PATH relative ${place} ${helper})
    get_filename_component(relative ${relative} DIRECTORY)
    install(FILES ${helper} DESTINATION ${mla_private}/${relative} COMPONENT libtorch)
  endforeach()
endif()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME mlaforge)
set(CPACK_PACKAGE_CONTACT "the mlaforge authors <mlaforge@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "make trained Llama-style models cheap to serve, and measure what it costs")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "Converts multi-head and grouped-query attention to multi-head latent attention,
fine-tunes and evaluates the result, and keeps records of every run.
Holds LibTorch (CPU, about 450 MB installed) in /usr/lib/mlaforge.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_FILE_NAME "mlaforge_${PROJECT_VERSION}_amd64")
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${mla_torch_root}/lib ${CMAKE_BINARY_DIR})
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "gnuplot-nox, fonts-dejavu-core, python3-jieba")
set(CPACK_DEBIAN_COMPRESSION_TYPE zstd)
set(CPACK_STRIP_FILES ON)
include(CPack)
