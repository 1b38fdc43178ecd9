// Whether a text names the right class.
#include <algorithm>

#include "core/base/registry.h"
#include "core/metrics/text_metric.h"

namespace mla {
namespace {

class Classification final : public TextMetric {
 public:
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  explicit Classification(const Options&) {}

  double score(const std::string& prediction, const std::string& reference,
               const std::vector<std::string>& classes) const override {
    if (classes.empty()) throw DataError("the metric classification needs the list of all classes");
    std::vector<std::string> named;
    for (const std::string& name : classes) {
      if (prediction.find(name) != std::string::npos) named.push_back(name);
    }
    // A class whose name is part of the right one's does not count as named. The reference implementation takes such
    // names out of the list while it walks along it, and so passes over the one after each.
    for (std::size_t i = 0; i < named.size(); ++i) {
      if (named[i] != reference && reference.find(named[i]) != std::string::npos) {
        named.erase(std::find(named.begin(), named.end(), named[i]));
      }
    }
    const bool right = std::find(named.begin(), named.end(), reference) != named.end();
    return right ? 1.0 / static_cast<double>(named.size()) : 0.0;
  }
};

const Registration<TextMetric, Classification> kClassification(
    "classification", "1 over the number of classes named, if the right one is among them");

}  // namespace
}  // namespace mla
