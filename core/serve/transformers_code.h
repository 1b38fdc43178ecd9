// Python beside a model, for what no class of transformers holds.
#pragma once

namespace mla {

inline constexpr const char *kCodeType = "mlaforge_latent", *kConfigurationFile = "configuration_mlaforge.py",
                            *kModelingFile = "modeling_mlaforge.py";

/// The texts of these files.
const char* configuration_code();
const char* modeling_code();

}  // namespace mla
