#include "core/model/torch_tensor.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"

namespace mla {
namespace {

[[noreturn]] void refuse_torch_file(const std::filesystem::path& path, const std::string& what) {
  throw DataError(cat(path.string(), ": expected one tensor as torch.save() writes it: ", what));
}

/// Numbers of a file by their places in it.
class Bytes {
 public:
  Bytes(std::string_view bytes, const std::filesystem::path& path) : bytes_(bytes), path_(path) {}

  std::string_view part(std::size_t begin, std::size_t count) const {
    if (begin > bytes_.size() || count > bytes_.size() - begin) refuse_torch_file(path_, "it ends too early");
    return bytes_.substr(begin, count);
  }
  /// Little-endian.
  std::size_t number(std::size_t begin, std::size_t count) const {
    std::size_t value = 0;
    const std::string_view digits = part(begin, count);
    for (std::size_t i = count; i-- > 0;) value = value << 8 | static_cast<unsigned char>(digits[i]);
    return value;
  }
  std::string_view all() const { return bytes_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::string_view bytes_;
  const std::filesystem::path& path_;
};

/// The entries of a zip archive by the ends of their names, behind the folder that torch.save() puts all into.
std::map<std::string, std::string_view> zip_entries(const Bytes& file) {
  const std::size_t end = file.all().rfind(std::string_view("PK\5\6", 4));
  if (end == std::string_view::npos) refuse_torch_file(file.path(), "it is no zip archive");
  std::map<std::string, std::string_view> entries;
  std::size_t at = file.number(end + 16, 4);
  for (std::size_t count = file.number(end + 10, 2); count > 0; --count) {
    const std::size_t method = file.number(at + 10, 2), size = file.number(at + 20, 4);
    const std::size_t name_size = file.number(at + 28, 2), local = file.number(at + 42, 4);
    const std::string_view name = file.part(at + 46, name_size);
    if (method != 0) refuse_torch_file(file.path(), cat("entry ", brief_text(name), " is compressed"));
    const std::size_t begin = local + 30 + file.number(local + 26, 2) + file.number(local + 28, 2);
    entries[std::string(name.substr(std::min(name.size(), name.find('/') + 1)))] = file.part(begin, size);
    at += 46 + name_size + file.number(at + 30, 2) + file.number(at + 32, 2);
  }
  return entries;
}

/// Reads a pickle into what it describes: numbers, texts, lists for tuples, and {"call", "arguments"} and {"stored"}
/// for what a library would make of them.
class Pickle {
 public:
  explicit Pickle(const Bytes& bytes) : bytes_(bytes) {}

  Json read() {
    if (bytes_.all().size() > kMostBytes) refuse_torch_file(bytes_.path(), kMore);
    for (int steps = 0; steps < kMostSteps; ++steps) {
      const char code = bytes_.part(at_++, 1).front();
      if (code == '.') return pop();
      step(code);
    }
    refuse_torch_file(bytes_.path(), kMore);
  }

 private:
  static constexpr const char* kMore = "its pickle holds more than a tensor";
  /// A tensor takes some hundreds of bytes and some fifty steps.
  static constexpr std::size_t kMostBytes = 1 << 16;
  static constexpr int kMostSteps = 1000;

  void step(char code) {
    switch (code) {
      case '\x80':
        at_ += 1;
        return;  // the protocol's version
      case '(':
        marks_.push_back(stack_.size());
        return;
      case 'c':
        return global();
      case 'q':
        return remember(next(1));
      case 'r':
        return remember(next(4));
      case 'h':
        return recall(next(1));
      case 'j':
        return recall(next(4));
      case 'X':
        return text(next(4));
      case '\x8c':
        return text(next(1));
      case 'K':
        return push(next(1));
      case 'M':
        return push(next(2));
      case 'J':
        return push(static_cast<std::int32_t>(next(4)));
      case 'N':
        return push(nullptr);
      case '\x88':
        return push(true);
      case '\x89':
        return push(false);
      case ')':
        return push(Json::array());
      case '}':
        return push(Json::object());
      case '\x85':
        return tuple(1);
      case '\x86':
        return tuple(2);
      case '\x87':
        return tuple(3);
      case 't':
        return marked();
      case 'Q':
        return push({{"stored", pop()}});
      case 'R':
        return call();
      default:
        refuse_torch_file(bytes_.path(), kMore);
    }
  }

  std::size_t next(std::size_t count) {
    const std::size_t value = bytes_.number(at_, count);
    at_ += count;
    return value;
  }
  void push(Json value) { stack_.push_back(std::move(value)); }
  Json pop() {
    if (stack_.empty()) refuse_torch_file(bytes_.path(), "its pickle is broken");
    Json value = std::move(stack_.back());
    stack_.pop_back();
    return value;
  }
  void remember(std::size_t place) {
    push(pop());  // there is one
    memo_[place] = stack_.back();
  }
  /// Of lists those of numbers alone: lists of lists could double with each step.
  void recall(std::size_t place) {
    const Json& value = memo_[place];
    const bool nested =
        value.is_object() ||
        (value.is_array() && std::any_of(value.begin(), value.end(), [](auto& item) { return item.is_structured(); }));
    if (nested) refuse_torch_file(bytes_.path(), kMore);
    push(value);
  }
  void text(std::size_t size) {
    push(std::string(bytes_.part(at_, size)));
    at_ += size;
  }
  std::string line() {
    const std::size_t end = bytes_.all().find('\n', at_);
    if (end == std::string_view::npos) refuse_torch_file(bytes_.path(), "its pickle is broken");
    const std::string found(bytes_.part(at_, end - at_));
    at_ = end + 1;
    return found;
  }
  void global() {
    const std::string module = line();
    push(module + "." + line());
  }
  void tuple(std::size_t size) {
    Json all = Json::array();
    for (std::size_t i = 0; i < size; ++i) all.insert(all.begin(), pop());
    push(std::move(all));
  }
  void marked() {
    if (marks_.empty() || marks_.back() > stack_.size()) refuse_torch_file(bytes_.path(), "its pickle is broken");
    const std::size_t size = stack_.size() - marks_.back();
    marks_.pop_back();
    tuple(size);
  }
  void call() {
    Json arguments = pop();
    push({{"call", pop()}, {"arguments", std::move(arguments)}});
  }

  const Bytes& bytes_;
  std::size_t at_ = 0;
  std::vector<Json> stack_;
  std::vector<std::size_t> marks_;
  std::map<std::size_t, Json> memo_;
};

at::ScalarType stored_type(const std::string& storage, const std::filesystem::path& path) {
  const std::vector<std::pair<const char*, at::ScalarType>> known = {
      {"torch.FloatStorage", at::kFloat},      {"torch.DoubleStorage", at::kDouble}, {"torch.HalfStorage", at::kHalf},
      {"torch.LongStorage", at::kLong},        {"torch.IntStorage", at::kInt},       {"torch.ByteStorage", at::kByte},
      {"torch.BFloat16Storage", at::kBFloat16}};
  for (const auto& [name, type] : known) {
    if (storage == name) return type;
  }
  refuse_torch_file(path, cat("its numbers are a ", brief_text(storage)));
}

/// Whether all elements of such a view lie among `count`, and are no more than these.
bool lies_within(const std::vector<std::int64_t>& sizes, const std::vector<std::int64_t>& strides, std::int64_t offset,
                 std::int64_t count) {
  if (sizes.size() != strides.size() || offset < 0) return false;
  std::int64_t last = offset, elements = 1;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] < 1 || strides[i] < 0 || last >= count) return false;
    if (strides[i] > 0 && sizes[i] - 1 > (count - 1 - last) / strides[i]) return false;
    if (sizes[i] > count / elements) return false;
    last += (sizes[i] - 1) * strides[i];
    elements *= sizes[i];
  }
  return last < count;
}

}  // namespace

at::Tensor read_torch_tensor(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  const std::map<std::string, std::string_view> entries = zip_entries(Bytes(text, path));
  const auto described = entries.find("data.pkl");
  if (described == entries.end()) refuse_torch_file(path, "it holds no data.pkl");
  const Bytes pickle(described->second, path);
  const Json tensor = Pickle(pickle).read();
  try {
    if (tensor.at("call") != "torch._utils._rebuild_tensor_v2") refuse_torch_file(path, "it holds another object");
    const Json& parts = tensor.at("arguments");
    const Json& stored = parts.at(0).at("stored");
    const at::ScalarType type = stored_type(stored.at(1), path);
    const std::string_view numbers = entries.at("data/" + stored.at(2).get<std::string>());
    const auto sizes = parts.at(2).get<std::vector<std::int64_t>>();
    const auto strides = parts.at(3).get<std::vector<std::int64_t>>();
    const auto offset = parts.at(1).get<std::int64_t>();
    const auto count = static_cast<std::int64_t>(numbers.size() / c10::elementSize(type));
    if (!lies_within(sizes, strides, offset, count)) refuse_torch_file(path, "its elements lie outside its numbers");
    const at::Tensor all = at::empty({count}, type);
    std::memcpy(all.data_ptr(), numbers.data(), static_cast<std::size_t>(count) * c10::elementSize(type));
    return all.as_strided(sizes, strides, offset).clone(at::MemoryFormat::Contiguous);
  } catch (const DataError&) {
    throw;
  } catch (const std::exception&) {
    refuse_torch_file(path, "it holds another object");
  }
}

}  // namespace mla
