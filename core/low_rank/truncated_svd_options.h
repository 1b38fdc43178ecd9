// What the strategies that cut one decomposition to the width of a latent are given.
#pragma once

#include <string>

#include "core/low_rank/latent_width.h"
#include "core/low_rank/rank_factor.h"

namespace mla {

/// The latent's width and how its factors are computed and written down.
struct TruncatedSvdOptions {
  LatentWidth width;
  RankFactorOptions factor;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    LatentWidth::fields(self.width, visit);
    RankFactorOptions::fields(self.factor, visit);
  }
  void validate(const std::string& path) const { factor.validate(path); }
};

}  // namespace mla
