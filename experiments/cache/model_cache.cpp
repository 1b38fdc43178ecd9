#include "experiments/cache/model_cache.h"

#include <ATen/ATen.h>

#include <vector>

#include "core/base/fields.h"

namespace mla {

CacheConfig cache_of_model(const std::filesystem::path& model) {
  CacheConfig config;
  const std::filesystem::path file = model / kModelCacheFile;
  if (!std::filesystem::is_directory(model) || !std::filesystem::exists(file)) return config;
  read_fields(read_json(file), file.string(), config);
  config.validate(file.string());
  return config;
}

void write_cache_of_model(const std::filesystem::path& folder, const CacheConfig& config) {
  if (config.is_plain()) {
    std::filesystem::remove(folder / kModelCacheFile);
  } else {
    write_json(folder / kModelCacheFile, write_fields(config));
  }
}

CacheBytes count_cache_bytes(const ModelSpec& spec, const CacheFormat& format, std::int64_t tokens,
                             const at::TensorOptions& like) {
  CacheBytes bytes;
  for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
    const std::vector<StreamShape> streams = spec.attention(layer).streams();
    std::vector<StreamStorage> storage;
    for (const StreamShape& stream : streams) storage.push_back(format ? format(layer, stream) : StreamStorage{});
    LayerCache cache(streams, 1, like, std::move(storage));
    for (std::size_t i = 0; i < streams.size(); ++i)
      cache.push(i, at::zeros({1, streams[i].heads, tokens, streams[i].width}, like));
    bytes.predicted += cache.predicted_bytes();
    bytes.counted += cache.bytes();
  }
  return bytes;
}

}  // namespace mla
