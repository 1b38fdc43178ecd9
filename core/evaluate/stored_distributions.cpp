#include "core/evaluate/stored_distributions.h"

#include <ATen/ATen.h>

#include <span>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/base/hash.h"
#include "core/model/safetensors.h"

namespace mla {
namespace {

constexpr const char* kFormat = "mlaforge distributions";
constexpr std::int64_t kVersion = 1;

/// The JSON object `about`.
struct About {
  std::string format;
  std::int64_t version = 0, vocabulary = 0, context = 0, stride = 0;
  std::string text_hash, model;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("format", self.format, "the file's kind");
    visit("version", self.version, "of the format");
    visit("vocabulary", self.vocabulary, "tokens of the model");
    visit("context", self.context, "tokens of a window");
    visit("stride", self.stride, "tokens from one window to the next");
    visit("text_hash", self.text_hash, "of the token ids");
    visit("model", self.model, "where the model was read from");
  }
};

at::Tensor as_bytes(const std::string& text) {
  const at::Tensor bytes = at::empty({std::ssize(text)}, at::kByte);
  std::copy(text.begin(), text.end(), bytes.mutable_data_ptr<std::uint8_t>());
  return bytes;
}

About read_about(const WeightMap& tensors, const std::string& name) {
  const auto found = tensors.find("about");
  if (found == tensors.end() || found->second.scalar_type() != at::kByte) {
    throw DataError(cat(name, ": holds no stored distributions (no bytes named 'about')"));
  }
  const at::Tensor bytes = found->second.contiguous();
  const auto* data = bytes.const_data_ptr<std::uint8_t>();
  About about;
  try {
    read_fields(parse_json(std::string(data, data + bytes.numel()), name + ": about"), "about", about);
  } catch (const ConfigError& error) {
    throw DataError(cat(name, ": ", error.what()));
  }
  if (about.format != kFormat) throw DataError(cat(name, ": format is '", about.format, "', expected '", kFormat, "'"));
  if (about.version != kVersion) {
    throw DataError(cat(name, ": version ", about.version, "; this program reads version ", kVersion));
  }
  return about;
}

/// The tensor, which must have the type and shape.
at::Tensor take(const WeightMap& tensors, const char* key, at::ScalarType type, const std::vector<std::int64_t>& shape,
                const std::string& name) {
  const auto found = tensors.find(key);
  if (found == tensors.end()) throw DataError(cat(name, ": ", key, " is missing"));
  const at::Tensor& tensor = found->second;
  if (tensor.scalar_type() != type || tensor.sizes() != at::IntArrayRef(shape)) {
    throw DataError(cat(name, ": ", key, " is ", c10::toString(tensor.scalar_type()), " ", tensor.sizes(),
                        ", expected ", c10::toString(type), " ", at::IntArrayRef(shape)));
  }
  return tensor;
}

}  // namespace

double StoredDistributions::mean_tail() const { return whole() ? 0 : tail.mean(at::kDouble).item<double>(); }

double StoredDistributions::largest_error() const { return step.max().item<double>() / 2; }

std::string hash_tokens(const std::vector<std::vector<std::int32_t>>& sequences) {
  Hasher hasher;
  for (const auto& sequence : sequences) {
    const std::int64_t length = std::ssize(sequence);
    hasher.update({reinterpret_cast<const char*>(&length), sizeof(length)});
    hasher.update({reinterpret_cast<const char*>(sequence.data()), sequence.size() * sizeof(sequence.front())});
  }
  return hasher.digest();
}

void write_distributions(const std::filesystem::path& path, const StoredDistributions& from) {
  const About about{kFormat, kVersion, from.vocabulary, from.context, from.stride, from.text_hash, from.model};
  std::vector<std::pair<std::string, at::Tensor>> tensors = {
      {"largest", from.largest}, {"step", from.step}, {"likeliest", from.likeliest}, {"target_nll", from.target_nll}};
  if (!from.whole()) {
    tensors.emplace_back("tail", from.tail);
    tensors.emplace_back("ids", from.ids);
  }
  tensors.emplace_back("codes", from.codes);
  tensors.emplace_back("about", as_bytes(write_fields(about).dump()));
  write_safetensors(path, tensors);
}

StoredDistributions read_distributions(const std::filesystem::path& path) {
  const std::string name = path.string();
  const WeightMap tensors = read_safetensors(path);
  const About about = read_about(tensors, name);
  const auto codes = tensors.find("codes");
  if (codes == tensors.end() || codes->second.dim() != 2)
    throw DataError(cat(name, ": codes [tokens, kept] are missing"));
  const std::int64_t tokens = codes->second.size(0), kept = codes->second.size(1);
  if (kept < 1 || kept > about.vocabulary || about.context < 2 || about.stride < 1) {
    throw DataError(cat(name, ": ", kept, " kept tokens of ", about.vocabulary, ", windows of ", about.context, " at ",
                        about.stride, ": not sizes of stored distributions"));
  }
  StoredDistributions stored{
      about.vocabulary, about.context, about.stride, about.text_hash, about.model, {}, {}, {}, {}, {}, {}, {}};
  stored.codes = take(tensors, "codes", at::kShort, {tokens, kept}, name);
  stored.largest = take(tensors, "largest", at::kFloat, {tokens}, name);
  stored.step = take(tensors, "step", at::kFloat, {tokens}, name);
  stored.likeliest = take(tensors, "likeliest", at::kInt, {tokens}, name);
  stored.target_nll = take(tensors, "target_nll", at::kFloat, {tokens}, name);
  if (kept == about.vocabulary) return stored;
  stored.ids = take(tensors, "ids", at::kInt, {tokens, kept}, name);
  stored.tail = take(tensors, "tail", at::kFloat, {tokens}, name);
  const bool known =
      tokens == 0 || (stored.ids.min().item<int>() >= 0 && stored.ids.max().item<int>() < about.vocabulary);
  if (!known) throw DataError(cat(name, ": ids lie outside 0..", about.vocabulary - 1));
  return stored;
}

}  // namespace mla
