// Models and the tokenizers that belong to them, as commands name them.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>

#include "core/model/model_spec.h"
#include "core/text/tokenizer.h"

namespace mla {

/// The tokenizer at `given`, or else the one in the model's folder (for a llama2.c file: the folder it lies in;
/// a GGUF file holds its own).
/// Throws DataError as load_tokenizer does. Where the tokenizer has ids that the model has no embedding for, encoding
/// throws it when a text has one of them; a model with more embeddings than the tokenizer has ids is padded, which is
/// usual.
std::unique_ptr<Tokenizer> load_model_tokenizer(const std::filesystem::path& model,
                                                const std::optional<std::filesystem::path>& given,
                                                const ModelSpec& spec);

/// The files that a model is read from, its tokenizer's included, by what they are called in a list of hashes: ROLE for
/// a single file, ROLE/NAME for those of a folder.
std::map<std::string, std::filesystem::path> files_of_model(const std::filesystem::path& model,
                                                            const std::string& role);

/// The same of a tokenizer, a file or a folder: what may decide the ids of a text, whether or not it is there for that.
std::map<std::string, std::filesystem::path> files_of_tokenizer(const std::filesystem::path& tokenizer,
                                                                const std::string& role);

/// The folder or file that load_model_tokenizer() reads.
std::filesystem::path place_of_tokenizer(const std::filesystem::path& model,
                                         const std::optional<std::filesystem::path>& given);

/// Throws ConfigError "<option> = …" where what is to be written is the model that it is made of: its files would be
/// replaced while they are read.
void expect_other_place(const std::filesystem::path& output, const std::filesystem::path& model,
                        const std::string& option);

}  // namespace mla
