#include "experiments/cell/unloaded_source.h"

#include <ATen/Parallel.h>

#include "core/base/fields.h"
#include "core/base/hash.h"
#include "experiments/cell/input_files.h"
#include "experiments/model/model_files.h"

namespace mla {

const Tokenizer& UnloadedSource::tokenizer() {
  if (!tokenizer_) tokenizer_ = load_model_tokenizer(model_.path, named_tokenizer(model_), decoder_.spec());
  return *tokenizer_;
}

std::filesystem::path UnloadedSource::place_of_tokenizer() {
  return mla::place_of_tokenizer(model_.path, named_tokenizer(model_));
}

const TokenRows& UnloadedSource::rows(const DataOptions& data) {
  const std::string key = hash_json(write_fields(data));
  auto found = rows_.find(key);
  if (found == rows_.end())
    found = rows_.emplace(key, load_rows(data, &tokenizer(), decoder_.spec().vocabulary, threads())).first;
  return found->second;
}

int UnloadedSource::threads() const { return at::get_num_threads(); }

}  // namespace mla
