#include "core/compress/pass.h"

#include <set>

#include "core/base/error.h"

namespace mla {

namespace {

/// The kinds of attention of all layers, in whichever order.
std::multiset<std::string> kinds_of(const ModelSpec& spec) {
  std::multiset<std::string> kinds;
  for (const LayerSpec& layer : spec.layers) kinds.insert(layer.attention->kind());
  return kinds;
}

}  // namespace

void expect_as_planned(const ModelSpec& planned, const Decoder& decoder, bool measured) {
  const ModelSpec& spec = decoder.spec();
  expects(planned.layers.size() == spec.layers.size(), "the model has as many layers as planned");
  for (std::int64_t i = 0; i < spec.layer_count(); ++i) {
    const auto where = [&](const char* what) { return cat("layer ", i, ": ", what, " as planned"); };
    expects(planned.layers[static_cast<std::size_t>(i)].storage == spec.layers[static_cast<std::size_t>(i)].storage,
            where("storage of linear maps"));
    if (measured) continue;
    expects(planned.attention(i).kind() == spec.attention(i).kind(), where("a kind of attention"));
    expects(planned.attention(i).streams() == spec.attention(i).streams(), where("cached streams"));
    expects(planned.attention(i).parameters(planned) == spec.attention(i).parameters(spec), where("tensors"));
  }
  // Which layers have which kind may follow from data; how many of each does not.
  expects(kinds_of(planned) == kinds_of(spec), "the layers are of the kinds planned");
  expects(cached_elements(planned) == cached_elements(spec), "the model caches as many elements as planned");
  expects(decoder.parameter_count() == count_parameters(measured ? spec : planned).total(),
          "the model's tensors hold what was planned");
  expects(planned.storage == spec.storage, "embedding and output matrix are held as planned");
  expects(decoder.weight_bytes() == decoder.predicted_weight_bytes(),
          "the model's buffers hold another number of weight bytes than predicted");
}

PassReport run_pass(const std::string& name, const Pass& pass, Decoder& decoder, const PassInputs& inputs) {
  const Requirements required = pass.requirements();
  expects(required.empty() || (inputs.statistics && inputs.statistics->covers(required)),
          "this pass needs calibration statistics");
  expects(!pass.reads_rows() || inputs.rows, "this pass needs calibration rows");
  expects(!pass.reads_source() || inputs.source, "this pass needs the source model");
  PassReport report{name, decoder.spec(), {}, {}};
  const ModelSpec planned = pass.plan(decoder.spec());
  report.layers = pass.apply(decoder, inputs);
  report.after = decoder.spec();
  expects(report.layers.size() == decoder.layers.size(), "a pass reports on every layer that it leaves");
  expect_as_planned(planned, decoder, pass.measures_shapes());
  return report;
}

}  // namespace mla
