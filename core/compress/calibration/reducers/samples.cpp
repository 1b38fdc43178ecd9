#include <algorithm>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/compress/calibration/reducers/token_mean.h"

namespace mla {
namespace {

/// Some tokens as they are, spread evenly: float64 [samples, width]. The same tokens at every tap and layer. Of a text
/// of any length every 2^k-th token is kept, with the smallest k that leaves no more than asked for.
class TokenSamples final : public Reducer {
 public:
  struct Options {
    std::int64_t tokens = 1024;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("tokens", self.tokens, "tokens kept at most");
    }
    void validate(const std::string& path) const {
      if (tokens < 1) throw ConfigError(cat(path, ".tokens = ", tokens, ": must be at least 1"));
    }
  };
  explicit TokenSamples(Options options) : options_(options) {}

  void add(const std::vector<at::Tensor>& batch) override {
    const at::Tensor rows = token_rows(batch.front());
    const std::int64_t skipped = (stride_ - seen_ % stride_) % stride_;
    seen_ += rows.size(0);
    if (skipped < rows.size(0)) kept_.push_back(rows.slice(0, skipped, rows.size(0), stride_).clone());
    while (count() > options_.tokens) {
      kept_ = {at::cat(kept_).slice(0, 0, std::nullopt, 2).clone()};
      stride_ *= 2;
    }
  }
  at::Tensor result(std::int64_t) const override { return at::cat(kept_); }

 private:
  std::int64_t count() const {
    std::int64_t total = 0;
    for (const at::Tensor& part : kept_) total += part.size(0);
    return total;
  }

  Options options_;
  std::vector<at::Tensor> kept_;
  std::int64_t seen_ = 0, stride_ = 1;
};

const Registration<Reducer, TokenSamples> kTokenSamples("samples", "some tokens as they are, spread evenly");

}  // namespace
}  // namespace mla
