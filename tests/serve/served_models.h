// Small converted models, written for other engines and read again.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>

#include "core/serve/export_format.h"
#include "tests/support/converted_models.h"
#include "tests/support/temporary_folder.h"

namespace mla::test {

/// A model of this tiny kind after a pass, float32, as a checkpoint.
Checkpoint served_model(const std::string& kind, const Json& pass);

/// The pass mha2mla with these pairs, and the pass transmla, which has a rotated key for all heads.
Json per_head_keys(const Json& rope);
Json shared_key();

/// Writes the model into folder/out and reads it again.
Decoder exported(const Checkpoint& model, const TemporaryFolder& folder, const ExportRequest& request = {"float32"},
                 ExportReport* report = nullptr);

/// The largest difference of logits on random ids, in standard deviations.
double logit_difference(const Decoder& a, const Decoder& b);

/// The first engine's verdict of that name.
EngineVerdict verdict_of(const ExportReport& report, const std::string& engine);

}  // namespace mla::test
