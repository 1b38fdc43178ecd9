// Products with blocks of codes: what they compute, the same to the byte with every instruction set and thread count.
#include "core/ops/panel_product.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cstring>
#include <sstream>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/gguf/element_type.h"
#include "core/ops/encode_blocks.h"
#include "core/ops/rounded_rows.h"

namespace mla {
namespace {

/// Of sums of products in float32, relative to the sum of their magnitudes.
constexpr double kSumError = 1e-6;
/// Of a product with x rounded to 8 bits, relative to |x| |w|: half a step of 1/127 of the largest of 32, at random.
constexpr double kRoundingError = 0.01;

const std::vector<std::string> kAllKinds = {"Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K"};

const gguf::ElementType& element_type(const std::string& name) {
  for (std::uint32_t code = 0; code < 64; ++code) {
    const gguf::ElementType* type = gguf::find_element_type(code);
    if (type && name == type->name) return *type;
  }
  throw std::logic_error(name);
}

/// Random codes and factors, with scales of about 1/1000.
at::Tensor random_blocks(const BlockFormat& format, std::int64_t rows, std::int64_t columns) {
  const std::int64_t count = columns / format.columns;
  at::Tensor blocks = at::randint(0, 256, {rows, count, format.bytes}, at::kByte);
  const at::Tensor halves = (at::randn({rows, count, 2}) / 1000).to(at::kHalf).view(at::kByte);
  const std::int64_t at = format.kind == BlockKind::kQ6K ? 208 : 0, size = format.least ? 4 : 2;
  blocks.narrow(2, at, size).copy_(halves.narrow(2, 0, size));
  return blocks.flatten(1);
}

at::Tensor by_definition(const std::string& name, const at::Tensor& blocks, std::int64_t columns) {
  const at::Tensor values = at::empty({blocks.size(0), columns}, at::kFloat);
  gguf::dequantize(element_type(name), static_cast<const std::byte*>(blocks.const_data_ptr()), values.numel(),
                   values.mutable_data_ptr<float>());
  return values;
}

struct Held {
  PanelMatrix matrix;
  at::Tensor dense;
};
Held random_matrix(const std::string& name, std::int64_t rows, std::int64_t columns) {
  const BlockFormat& format = *find_block_format(name);
  const at::Tensor blocks = random_blocks(format, rows, columns);
  return {{&format, to_panels(format, blocks), rows, columns}, by_definition(name, blocks, columns)};
}

TEST(Panels, HoldWhatTheBlocksStandFor) {
  for (const std::string& name : kAllKinds) {
    for (const std::int64_t rows : {1, 15, 16, 33}) {
      const Held held = random_matrix(name, rows, 512);
      const BlockFormat& format = *held.matrix.format;
      EXPECT_EQ(format.bytes, static_cast<std::int64_t>(element_type(name).bytes)) << name;
      EXPECT_EQ(format.columns, element_type(name).block) << name;
      EXPECT_TRUE(at::equal(decode_panels(format, held.matrix.panels, rows, 512), held.dense)) << name;
      const at::Tensor some = at::tensor({rows - 1, std::int64_t{0}, rows / 2}, at::kLong);
      EXPECT_TRUE(
          at::equal(decode_panels(format, held.matrix.panels, rows, 512, some), held.dense.index_select(0, some)))
          << name;
      EXPECT_TRUE(has_finite_scales(format, held.matrix.panels));
      at::Tensor broken = held.matrix.panels.clone();
      broken.flatten().narrow(0, 0, 2).copy_(at::tensor({0x00, 0x7C}, at::kByte));  // infinity
      EXPECT_FALSE(has_finite_scales(format, broken)) << name;
    }
  }
}

TEST(Panels, ProductsAreThoseOfRoundedRows) {
  const at::NoGradGuard no_grad;
  for (const std::string& name : kAllKinds) {
    for (const std::int64_t columns : {256, 768}) {
      const Held held = random_matrix(name, 35, columns);
      for (std::int64_t count = 1; count <= 17; ++count) {
        SCOPED_TRACE(cat(name, " ", columns, " ", count));
        const at::Tensor x = at::randn({count, columns});
        const at::Tensor y = panel_products(x, {held.matrix}).front();
        const at::Tensor bound = x.abs().to(at::kDouble).mm(held.dense.abs().to(at::kDouble).t());
        const at::Tensor rounded = rounded_values(x).to(at::kDouble).mm(held.dense.to(at::kDouble).t());
        EXPECT_LT(((y - rounded).abs() / bound).max().item<double>(), kSumError);
        const at::Tensor exact = x.to(at::kDouble).mm(held.dense.to(at::kDouble).t());
        EXPECT_LT(((y - exact).abs() / bound).max().item<double>(), kRoundingError);
        EXPECT_GT((y - exact).abs().max().item<double>(), 0);
        // Whatever rows stand beside it.
        EXPECT_TRUE(at::equal(panel_products(x.narrow(0, count - 1, 1), {held.matrix}).front()[0], y[count - 1]));
      }
    }
  }
}

TEST(Panels, AllInstructionSetsGiveTheSameBytes) {
  const std::vector<PanelKernel> kernels = panel_kernels();
  ASSERT_EQ(kernels.front(), PanelKernel::kPlain);
  for (const std::string& name : kAllKinds) {
    for (const std::int64_t rows : {1, 16, 50}) {
      const Held held = random_matrix(name, rows, 512);
      // The largest codes, whose products must not overflow.
      at::Tensor extreme = held.matrix.panels.clone();
      extreme.narrow(2, held.matrix.format->panel_bytes - 64, 64).fill_(255);
      const PanelMatrix edge{held.matrix.format, extreme, rows, 512};
      for (const std::int64_t count : {1, 2, 3, 9, 12}) {
        at::Tensor x = at::randn({count, 512});
        x.narrow(1, 480, 32).fill_(3.0F);
        const std::vector<at::Tensor> plain = panel_products(x, {held.matrix, edge}, PanelKernel::kPlain);
        for (const PanelKernel kernel : kernels) {
          const std::vector<at::Tensor> other = panel_products(x, {held.matrix, edge}, kernel);
          for (std::size_t i = 0; i < plain.size(); ++i) {
            EXPECT_EQ(std::memcmp(plain[i].const_data_ptr(), other[i].const_data_ptr(), plain[i].nbytes()), 0)
                << name << " " << rows << " x " << count << ", kernel " << static_cast<int>(kernel);
          }
        }
      }
    }
  }
}

TEST(Panels, ThreadsChangeNothing) {
  const Held wide = random_matrix("Q4_1", 2000, 576), narrow = random_matrix("Q8_0", 192, 576);
  const at::Tensor x = at::randn({3, 576});
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const std::vector<at::Tensor> one = panel_products(x, {wide.matrix, narrow.matrix});
  at::set_num_threads(2);
  const std::vector<at::Tensor> two = panel_products(x, {wide.matrix, narrow.matrix});
  at::set_num_threads(before);
  for (std::size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], two[i]));
  EXPECT_TRUE(at::equal(one[1], panel_products(x, {narrow.matrix}).front()));
}

/// How far the codes of encode_blocks() may be from a value, of blocks whose largest magnitude is `largest`: half a
/// step of largest/127 or (most - least)/15; a step of largest/8 where the code +8 is wanted, which there is not. And
/// what scales lose in half precision.
double largest_code_error(const std::string& name, double largest) {
  const double of_scales = 2 * largest / 2048;
  if (name == "Q8_0") return largest / 127 / 2 + of_scales;
  return (name == "Q4_0" ? largest / 8 : 2 * largest / 15 / 2) + of_scales;
}

TEST(Panels, LastBlocksMayBeFilledUp) {
  const at::NoGradGuard no_grad;
  for (const char* name : {"Q8_0", "Q4_0", "Q4_1"}) {
    const BlockFormat& format = *find_block_format(name);
    for (const std::int64_t columns : {1, 31, 33, 48}) {
      const at::Tensor matrix = at::randn({20, columns});
      const PanelMatrix held{&format, to_panels(format, encode_blocks(format, matrix)), 20, columns};
      const at::Tensor dense = decode_panels(format, held.panels, 20, columns), x = at::randn({2, 3, columns});
      EXPECT_LT((dense - matrix).abs().max().item<double>(),
                largest_code_error(name, matrix.abs().max().item<double>()))
          << name;
      const at::Tensor y = panel_products(x, {held}).front();
      EXPECT_EQ(y.sizes(), (at::IntArrayRef{2, 3, 20}));
      EXPECT_LT((y - at::matmul(rounded_values(x), dense.t())).abs().max().item<double>(), 1e-4) << name << columns;
    }
  }
}

TEST(Panels, RowsAreRoundedToCodes) {
  at::Tensor x = at::randn({3, 70});
  x[1].narrow(0, 32, 32).zero_();
  const RoundedRows rows = round_rows(x);
  EXPECT_EQ(rows.groups, 3);
  const at::Tensor values = rounded_values(x);
  for (std::int64_t r = 0; r < 3; ++r) {
    for (std::int64_t c = 0; c < 70; ++c) {
      const auto group = static_cast<std::size_t>(r * 3 + c / 32);
      const float value =
          rows.scales[group] * static_cast<float>(rows.codes[group * 32 + static_cast<std::size_t>(c % 32)]);
      EXPECT_EQ(value, values[r][c].item<float>());
      EXPECT_NEAR(value, x[r][c].item<float>(), 0.51 * static_cast<double>(rows.scales[group]));
    }
  }
  EXPECT_EQ(rows.scales[4], 0);
  // What is no number stays none.
  x[2][69] = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(std::isnan(round_rows(x).scales[8]));
  EXPECT_FALSE(std::isnan(round_rows(x).scales[7]));
}

std::string hex_of(const at::Tensor& bytes) {
  std::string text;
  const at::Tensor flat = bytes.contiguous();
  for (std::int64_t i = 0; i < flat.numel(); ++i) {
    constexpr const char* kDigits = "0123456789abcdef";
    const int byte = flat.const_data_ptr<std::uint8_t>()[i];
    text += {kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return text;
}

TEST(EncodeBlocks, GivesTheBytesOfTheReference) {
  std::istringstream lines(read_file(std::string(MLA_SOURCE_DIR) + "/tests/gguf/golden/encoded.txt"));
  int seen = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("#")) continue;
    std::istringstream words(line);
    std::string name, values, blocks;
    words >> name >> values >> blocks;
    std::vector<std::uint32_t> bits;
    for (std::size_t i = 0; i + 8 <= values.size(); i += 8)
      bits.push_back(static_cast<std::uint32_t>(std::stoul(values.substr(i, 8), nullptr, 16)));
    at::Tensor x = at::empty({1, std::ssize(bits)}, at::kFloat);
    std::memcpy(x.mutable_data_ptr(), bits.data(), x.nbytes());
    EXPECT_EQ(hex_of(encode_blocks(*find_block_format(name), x)), blocks) << name;
    ++seen;
  }
  EXPECT_EQ(seen, 21);
}

TEST(EncodeBlocks, RefusesWhatHasNoScale) {
  for (const char* name : {"Q8_0", "Q4_0", "Q4_1"}) {
    const BlockFormat& format = *find_block_format(name);
    at::Tensor x = at::randn({2, 64});
    EXPECT_NO_THROW(encode_blocks(format, x));
    x[1][40] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_THROW(encode_blocks(format, x), DataError);
    x[1][40] = 1e30F;
    EXPECT_THROW(encode_blocks(format, x), DataError);
  }
  EXPECT_FALSE(encodes_blocks(*find_block_format("Q4_K")));
  EXPECT_THROW(encode_blocks(*find_block_format("Q6_K"), at::randn({1, 256})), std::logic_error);
}

}  // namespace
}  // namespace mla
