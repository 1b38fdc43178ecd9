#include "core/model/weight_keeper.h"

namespace mla {
namespace {

thread_local WeightKeeper* keeper_now = nullptr;

}  // namespace

WeightKeeper* weight_keeper() { return keeper_now; }

WeightKeeperScope::WeightKeeperScope(WeightKeeper* keeper) : before_(keeper_now) { keeper_now = keeper; }
WeightKeeperScope::~WeightKeeperScope() { keeper_now = before_; }

}  // namespace mla
