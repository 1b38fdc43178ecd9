// Tiny models of every family with what transformers makes of them (tests/model/families/make.py).
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "core/model/checkpoint.h"
#include "tests/support/temporary_folder.h"

namespace mla::test {

/// The names of the recorded models.
std::vector<std::string> family_models();

/// A recorded model: its files in a folder of their own, as transformers would write them, and what is recorded.
struct FamilyModel {
  explicit FamilyModel(const std::string& name);

  Checkpoint load(at::ScalarType dtype = at::kDouble) const;
  /// A list of rows, of ids or of logits.
  at::Tensor recorded(const std::string& key) const;

  Json record;
  ModelSpec spec;
  std::vector<std::pair<std::string, at::Tensor>> tensors;  ///< of the file, in float64
  TemporaryFolder folder;
};

}  // namespace mla::test
