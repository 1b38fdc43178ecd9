#include "core/text/file_kind.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "core/text/utf8.h"

namespace mla {
namespace {

using std::string_view_literals::operator""sv;

constexpr std::string_view kTable =
    "convert it to JSON lines, for example with pandas: to_json(FILE, orient=\"records\", lines=True)";
constexpr std::string_view kExport = "export its texts as JSON lines, one object with the text a line";
constexpr std::string_view kExtract = "extract it, and name the files in it";
constexpr std::string_view kRepack = "unpack it, or pack it with gzip, zstd or xz";
constexpr std::string_view kToText = "extract its text first, for example with ";
constexpr std::string_view kNoText = "it holds no text that could be read";

struct Signature {
  std::size_t at;
  std::string_view bytes, name, advice, tool = "";
  bool binary = false;  ///< letters that a text could begin with: something else must be odd about it
};

constexpr std::array kSignatures = {
    Signature{0, "PAR1"sv, "a Parquet file", kTable},
    Signature{0, "PARE"sv, "an encrypted Parquet file", kTable},
    Signature{0, "ARROW1"sv, "an Arrow (Feather) file", kTable, "", true},
    Signature{0, "FEA1"sv, "a Feather file", kTable, "", true},
    Signature{0, "\xFF\xFF\xFF\xFF"sv, "an Arrow stream",
              "convert it to JSON lines, for example with datasets: to_json"},
    Signature{0, "ORC"sv, "an ORC file", kTable, "", true},
    Signature{0, "Obj\x01"sv, "an Avro file", kTable},
    Signature{0, "SQLite format 3\0"sv, "an SQLite database", kExport},
    Signature{0, "\x89HDF\r\n\x1A\n"sv, "an HDF5 file", kExport},
    Signature{0, "CDF\x01"sv, "a NetCDF file", kExport},
    Signature{0, "CDF\x02"sv, "a NetCDF file", kExport},
    Signature{0, "MATLAB 5.0 MAT-file"sv, "a MATLAB file", kExport},
    Signature{0, "\x93NUMPY"sv, "a NumPy array",
              "token ids go into {\"ids\": [[…]]} in a .json file or a .safetensors file"},
    Signature{0, "MLATOKEN"sv, "a token shard", "give it the extension .mlat, by which configs know it"},
    Signature{0, "GGUF"sv, "a GGUF model", kNoText, "", true},
    Signature{0, "PK\x03\x04"sv, "a zip archive (or .docx, .xlsx, .npz, .pt, which are such)", kExtract},
    Signature{0, "PK\x05\x06"sv, "an empty zip archive", kExtract},
    Signature{0, "PK\x07\x08"sv, "a zip archive in parts", kExtract},
    Signature{257, "ustar"sv, "a tar archive", kExtract, "", true},
    Signature{0, "7z\xBC\xAF\x27\x1C"sv, "a 7-Zip archive", kExtract},
    Signature{0, "Rar!\x1A\x07"sv, "a RAR archive", kExtract},
    Signature{0, "\x04\x22\x4D\x18"sv, "a file packed by lz4", kRepack},
    Signature{0, "LZIP\x01"sv, "a file packed by lzip", kRepack},
    Signature{0, "\x89LZO\0"sv, "a file packed by lzop", kRepack},
    Signature{0, "\x1F\x9D"sv, "a file packed by compress (.Z)", kRepack},
    Signature{0, "\xFF\x06\0\0sNaPpY"sv, "a file packed by snappy", kRepack},
    Signature{0, "\x5D\0\0"sv, "a file packed by lzma", kRepack},
    Signature{4, "1AY&SY"sv, "a file packed by bzip2", kRepack},
    Signature{4, "\x17\x72\x45\x38\x50\x90"sv, "a file packed by bzip2", kRepack},
    Signature{0, "\x1F\x8B"sv, "packed twice", kRepack},
    Signature{0, "\x28\xB5\x2F\xFD"sv, "packed twice", kRepack},
    Signature{0, "\xFD\x37zXZ\0"sv, "packed twice", kRepack},
    Signature{0, "%PDF-"sv, "a PDF document", kToText, "pdftotext"},
    Signature{0, "%!PS"sv, "a PostScript document", kToText, "ps2ascii"},
    Signature{0, "{\\rtf"sv, "an RTF document", kToText, "pandoc"},
    Signature{0, "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1"sv, "an old Microsoft Office document", kToText, "pandoc"},
    Signature{0, "\x89PNG\r\n\x1A\n"sv, "a PNG picture", kNoText},
    Signature{0, "\xFF\xD8\xFF"sv, "a JPEG picture", kNoText},
    Signature{0, "GIF87a"sv, "a GIF picture", kNoText, "", true},
    Signature{0, "GIF89a"sv, "a GIF picture", kNoText, "", true},
    Signature{0, "II*\0"sv, "a TIFF picture", kNoText},
    Signature{0, "MM\0*"sv, "a TIFF picture", kNoText},
    Signature{8, "WEBP"sv, "a WebP picture", kNoText, "", true},
    Signature{8, "WAVEfmt "sv, "a WAV recording", kNoText, "", true},
    Signature{0, "OggS\0"sv, "an Ogg recording", kNoText},
    Signature{0, "fLaC\0"sv, "a FLAC recording", kNoText},
    Signature{0, "ID3\x03"sv, "an MP3 recording", kNoText},
    Signature{0, "ID3\x04"sv, "an MP3 recording", kNoText},
    Signature{4, "ftypisom"sv, "an MP4 film", kNoText, "", true},
    Signature{4, "ftypmp4"sv, "an MP4 film", kNoText, "", true},
    Signature{0,
              "\x7F"
              "ELF"sv,
              "a program", kNoText},
    Signature{0, "\xCA\xFE\xBA\xBE"sv, "a Java class", kNoText},
    Signature{0, "\0asm"sv, "a WebAssembly program", kNoText},
};

/// Whether text does not look like this: zeros, or bytes that are no UTF-8. (A character may be cut at the end.)
bool looks_binary(std::string_view head) {
  return head.find('\0') != std::string_view::npos || valid_utf8_prefix(head) + 4 < head.size();
}

/// Eight bytes of length, then a JSON object.
bool is_safetensors(std::string_view head) {
  if (head.size() < 10 || head[8] != '{' || (head[9] != '"' && head[9] != '}')) return false;
  std::uint64_t length = 0;
  std::memcpy(&length, head.data(), sizeof length);
  return length < std::uint64_t{1} << 32;
}

/// Protocols 2 to 5 say so; what follows is a frame, or one of the opcodes of a container.
bool is_pickle(std::string_view head) {
  if (head.size() < 3 || head[0] != '\x80' || head[1] < 2 || head[1] > 5) return false;
  return head[2] == '\x95' || std::string_view("]}(c)Xq.\x8A\x8C\x8F").find(head[2]) != std::string_view::npos;
}

FileKind in_encoding(const std::string& name) {
  return {"text in " + name, "convert it to UTF-8: iconv -f " + name + " -t UTF-8"};
}

/// UTF-16 and UTF-32 by a byte order mark, or by where the zeros of mostly European text stand.
std::optional<FileKind> wide_text(std::string_view head) {
  if (head.starts_with("\xFF\xFE\0\0"sv)) return in_encoding("UTF-32LE");
  if (head.starts_with("\0\0\xFE\xFF"sv)) return in_encoding("UTF-32BE");
  if (head.starts_with("\xFF\xFE"sv)) return in_encoding("UTF-16LE");
  if (head.starts_with("\xFE\xFF"sv)) return in_encoding("UTF-16BE");
  const std::size_t units = head.size() / 4;
  if (units == 0) return std::nullopt;
  std::array<std::size_t, 4> zeros{};  // by place in four bytes
  for (std::size_t i = 0; i < 4 * units; ++i) zeros[i % 4] += head[i] == '\0';
  const auto mostly = [&](std::size_t place) { return 10 * zeros[place] >= 7 * units; };
  const auto never = [&](std::size_t place) { return 20 * zeros[place] <= units; };
  if (never(0) && mostly(2) && mostly(3)) return in_encoding("UTF-32LE");
  if (never(3) && mostly(0) && mostly(1)) return in_encoding("UTF-32BE");
  if (never(0) && never(2) && mostly(1) && mostly(3)) return in_encoding("UTF-16LE");
  if (never(1) && never(3) && mostly(0) && mostly(2)) return in_encoding("UTF-16BE");
  return std::nullopt;
}

struct PackedName {
  std::string_view extension, format;
  bool unpacked;
};
constexpr std::array kPackedNames = {
    PackedName{".gz", "gzip", true},   PackedName{".gzip", "gzip", true},       PackedName{".zst", "zstd", true},
    PackedName{".zstd", "zstd", true}, PackedName{".xz", "xz", true},           PackedName{".bz2", "bzip2", false},
    PackedName{".lz4", "lz4", false},  PackedName{".zip", "zip", false},        PackedName{".tar", "tar", false},
    PackedName{".tgz", "gzip", false}, PackedName{".parquet", "Parquet", false}};

const PackedName* packed_name(std::string_view file_name) {
  const auto found = std::find_if(kPackedNames.begin(), kPackedNames.end(), [&](const PackedName& packed) {
    return file_name.size() > packed.extension.size() && file_name.ends_with(packed.extension);
  });
  return found == kPackedNames.end() ? nullptr : &*found;
}

}  // namespace

std::optional<FileKind> file_kind(std::string_view head) {
  for (const Signature& signature : kSignatures) {
    if (head.size() > signature.at && head.substr(signature.at).starts_with(signature.bytes) &&
        (!signature.binary || looks_binary(head))) {
      return FileKind{std::string(signature.name), std::string(signature.advice) + std::string(signature.tool)};
    }
  }
  if (is_safetensors(head)) {
    return FileKind{"a safetensors file",
                    "token ids are read from one with that extension, where a config names its tensors"};
  }
  if (is_pickle(head)) return FileKind{"a Python pickle", std::string(kExport)};
  return wide_text(head);
}

std::string promised_packing(std::string_view file_name) {
  const PackedName* packed = packed_name(file_name);
  return packed == nullptr ? "" : std::string(packed->format);
}

std::string_view unpacked_name(std::string_view file_name) {
  const PackedName* packed = packed_name(file_name);
  if (packed == nullptr || !packed->unpacked) return file_name;
  return file_name.substr(0, file_name.size() - packed->extension.size());
}

}  // namespace mla
