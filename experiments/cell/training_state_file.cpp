#include "experiments/cell/training_state_file.h"

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/model/safetensors.h"
#include "core/model/safetensors_writer.h"

namespace mla {
namespace {

template <class T>
constexpr at::ScalarType kDtype = c10::CppTypeToScalarType<T>::value;

template <class T>
at::Tensor to_tensor(const std::vector<T>& values) {
  return at::tensor(values, kDtype<T>);
}

/// Reads one series of the report, and takes it out of `tensors`.
template <class T>
std::vector<T> take(WeightMap& tensors, const std::string& name, const std::string& file) {
  const auto found = tensors.find(name);
  if (found == tensors.end() || found->second.scalar_type() != kDtype<T> || found->second.dim() != 1) {
    throw DataError(cat(file, ": no training state: the series ", name, " is missing or of another type"));
  }
  const at::Tensor values = found->second.contiguous();
  tensors.erase(found);
  return {values.const_data_ptr<T>(), values.const_data_ptr<T>() + values.numel()};
}

}  // namespace

void write_training_state(const std::filesystem::path& path, const TrainingState& state) {
  const TrainingReport& report = state.report;
  std::vector<std::pair<std::string, at::Tensor>> tensors = {
      {"report.step", to_tensor(report.step)},
      {"report.tokens", to_tensor(report.tokens)},
      {"report.loss", to_tensor(report.loss)},
      {"report.learning_rate", to_tensor(report.learning_rate)},
      {"report.gradient_norm", to_tensor(report.gradient_norm)},
      {"report.seconds", to_tensor(std::vector<double>{report.seconds})},
      {"position", to_tensor(std::vector<std::int64_t>{state.position})}};
  tensors.insert(tensors.end(), state.tensors.begin(), state.tensors.end());
  std::vector<TensorSource> sources = sources_of(tensors);
  sources.insert(sources.end(), state.gathered.begin(), state.gathered.end());
  stage_safetensors(path, sources)->finish({});
}

TrainingState read_training_state(const std::filesystem::path& path) {
  WeightMap tensors = read_safetensors(path);
  TrainingState state;
  TrainingReport& report = state.report;
  const std::string file = path.string();
  report.step = take<std::int64_t>(tensors, "report.step", file);
  report.tokens = take<std::int64_t>(tensors, "report.tokens", file);
  report.loss = take<double>(tensors, "report.loss", file);
  report.learning_rate = take<double>(tensors, "report.learning_rate", file);
  report.gradient_norm = take<double>(tensors, "report.gradient_norm", file);
  const auto seconds = take<double>(tensors, "report.seconds", file);
  const auto position = take<std::int64_t>(tensors, "position", file);
  if (report.step.empty() || seconds.size() != 1 || position.size() != 1) {
    throw DataError(cat(file, ": no training state: it holds no step"));
  }
  report.seconds = seconds.front();
  state.position = position.front();
  state.tensors.assign(tensors.begin(), tensors.end());
  return state;
}

}  // namespace mla
