// Gradients of the loss on calibration text.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

#include "core/compress/calibration/rows.h"
#include "core/model/decoder.h"

namespace mla {

/// Backward from the final hidden states [rows, length, hidden] of ids [rows, length], length at least 2, which record
/// gradients: of each row's loss, the sum of -log p of its tokens after the first. Logits of one row at a time.
void backward_from_losses(const Decoder& decoder, const at::Tensor& ids, const at::Tensor& states);

/// Told of a row: how many of its tokens are predicted, and by the whole name of each linear map in the layers, without
/// ".weight", the gradient of the row's loss by its matrix.
using SeeRowGradients = std::function<void(std::int64_t predicted, const TensorMap& gradients)>;

/// Runs rows of two tokens or more through a copy of the model, one by one, forward and backward, in memory of a
/// model's weights and their gradients beside the model. The layers' matrices are dense. Throws DataError as
/// calibration_batches() does, and where no row predicts anything.
void for_row_gradients(const Decoder& decoder, const TokenRowList& rows, const SeeRowGradients& see);

}  // namespace mla
