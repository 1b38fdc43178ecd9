#include "tests/support/torch_file.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/base/file.h"

namespace mla::test {
namespace {

std::string little_endian(std::size_t value, std::size_t bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes; ++i, value >>= 8) text += static_cast<char>(value & 0xff);
  return text;
}

std::string pickled_text(const std::string& text) { return "X" + little_endian(text.size(), 4) + text; }

std::string pickled_number(std::int64_t value) {
  return value < 256 ? "K" + little_endian(static_cast<std::size_t>(value), 1)
                     : "M" + little_endian(static_cast<std::size_t>(value), 2);
}

std::string pickled_numbers(at::IntArrayRef values) {
  std::string text = values.size() > 3 ? "(" : "";
  for (const std::int64_t value : values) text += pickled_number(value);
  const char ends[] = {')', '\x85', '\x86', '\x87'};
  return text + (values.size() > 3 ? 't' : ends[values.size()]);
}

std::string pickled_tensor(const at::Tensor& tensor, std::int64_t numbers) {
  const std::map<at::ScalarType, std::string> storages = {
      {at::kByte, "ByteStorage"},     {at::kLong, "LongStorage"}, {at::kFloat, "FloatStorage"},
      {at::kDouble, "DoubleStorage"}, {at::kHalf, "HalfStorage"}, {at::kBFloat16, "BFloat16Storage"}};
  return "\x80\x02"
         "ctorch._utils\n_rebuild_tensor_v2\nq" +
         std::string(1, '\0') + "((" + pickled_text("storage") + "q\1ctorch\n" + storages.at(tensor.scalar_type()) +
         "\nq\2" + pickled_text("0") + "q\3" + pickled_text("cpu") + "q\4" + pickled_number(numbers) + "tQ" +
         pickled_number(tensor.storage_offset()) + pickled_numbers(tensor.sizes()) + pickled_numbers(tensor.strides()) +
         "\x89"
         "ccollections\nOrderedDict\nq\5)RtR.";
}

}  // namespace

void write_torch_file(const std::filesystem::path& path, const at::Tensor& tensor) {
  const std::size_t bytes = tensor.storage().nbytes();
  const auto* data = static_cast<const char*>(tensor.storage().data());
  const std::vector<std::pair<std::string, std::string>> entries = {
      {"ranks/data.pkl", pickled_tensor(tensor, static_cast<std::int64_t>(bytes / tensor.element_size()))},
      {"ranks/data/0", std::string(data, bytes)},
      {"ranks/version", "3\n"}};
  std::string file, directory;
  for (const auto& [name, content] : entries) {
    const std::string sizes = little_endian(0, 4) + little_endian(content.size(), 4) + little_endian(content.size(), 4);
    const std::string common = little_endian(0, 8) + sizes + little_endian(name.size(), 2);
    directory += "PK\1\2" + little_endian(0, 2) + little_endian(0, 2) + common + little_endian(0, 12) +
                 little_endian(file.size(), 4) + name;
    file += "PK\3\4" + little_endian(0, 2) + common + little_endian(3, 2) + name + "FBZ" + content;
  }
  const std::size_t begin = file.size();
  file += directory + "PK\5\6" + little_endian(0, 4) + little_endian(entries.size(), 2) +
          little_endian(entries.size(), 2) + little_endian(directory.size(), 4) + little_endian(begin, 4) +
          little_endian(0, 2);
  write_file_atomically(path, file);
}

}  // namespace mla::test
