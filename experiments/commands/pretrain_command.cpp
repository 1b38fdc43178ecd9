#include <algorithm>
#include <numeric>

#include "core/base/byte_size.h"
#include "core/base/fields.h"
#include "core/base/hash.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "core/model/checkpoint.h"
#include "core/model/initialize.h"
#include "core/model/pool_heads.h"
#include "experiments/cell/cell_folder.h"
#include "experiments/cell/cell_journal.h"
#include "experiments/cell/training.h"
#include "experiments/cli/command.h"
#include "experiments/cli/log_file.h"
#include "experiments/cli/table.h"
#include "experiments/commands/run_provenance.h"
#include "experiments/config/pretrain_config.h"
#include "experiments/model/dtype.h"
#include "experiments/model/model_files.h"
#include "experiments/model/placement_options.h"

namespace mla {
namespace {

/// Steps that the final loss is averaged over: a single batch's loss is noisy.
constexpr std::size_t kFinalSteps = 10;

double mean_of_last(const std::vector<double>& values) {
  const std::size_t count = std::min(kFinalSteps, values.size());
  return std::accumulate(values.end() - static_cast<std::ptrdiff_t>(count), values.end(), 0.0) /
         static_cast<double>(count);
}

std::int64_t longest_document(const TokenStream& tokens) {
  std::int64_t longest = 0;
  for (std::int64_t i = 0; i < tokens.documents(); ++i) {
    longest = std::max(longest, tokens.document_begin(i + 1) - tokens.document_begin(i));
  }
  return longest;
}

/// Trains a new model, from nothing or from another's weights, and writes it as a Hugging Face folder.
class Pretrain final : public Command {
 public:
  void declare(OptionList& options) override {
    options.argument("config", config_, "CONFIG", "JSON file: output, config (of the model), tokenizer, train, seed");
    options.add("set", set_, "KEY=VALUE", "change a value of the config, for example train.steps=100; may be repeated");
    declare_device(options, device_, "cpu, or the config's");
    declare_products(options, products_, "float32, or the config's");
  }

  bool shares_work() const override { return true; }

  ExitCode run(Console& console) override {
    install_interrupt_handler();
    PretrainConfig config = read_pretrain_config(config_, assignments());
    if (!config.from.empty()) expect_other_place(config.output, config.from, "output");
    const auto tokenizer = load_model_tokenizer(config_, config.tokenizer, config.spec());
    name_special_tokens(*tokenizer, config.config);
    const bool rows = config.train.in_rows();
    std::int64_t longest = config.train.options.sequence_length;
    const auto batches = make_batches(config.train, [&](const DataOptions& data, LossOn loss_on) {
      const std::int64_t vocabulary = config.spec().vocabulary;
      const auto tokens = loss_on == LossOn::kCompletion
                              ? open_completions(data, *tokenizer, config.tokenizer, vocabulary)
                              : open_tokens(data, *tokenizer, vocabulary, console.workers());
      if (rows) longest = longest_document(*tokens);
      return tokens;
    });
    check_length(longest, config);
    std::filesystem::create_directories(config.output);  // a folder that cannot be made is found out before the work

    Checkpoint model{first_weights(config), config.config, std::filesystem::absolute(config.tokenizer)};
    model.decoder.move_to(config.placement());
    const DataHashes hashes = data_hashes(config);
    const CellFolder folder(config.output, content_hash(config, hashes));
    CellTraining keeper(folder, "training", config.checkpoint_seconds);
    std::optional<LogFile> log;
    if (world().first()) log.emplace(std::filesystem::path(config.output) / "training.log", console.command_line());
    TrainingJournal journal(journal_plan(config, folder, model));
    const TrainingReport report = train_on(*batches, config.train, model.decoder, "pretrain", &keeper, nullptr,
                                           world().first() ? &journal : nullptr);
    if (report.status == TrainingStatus::kInterrupted) {
      throw Interrupted(cat(report.message, "; its state is kept, the same command goes on from there"));
    }
    const bool complete = report.status == TrainingStatus::kComplete;
    if (complete && world().first()) {
      store_as(config.dtype, model);
      save_checkpoint(model, config.output);
      write_record(std::filesystem::path(config.output) / "training.h5", record_of(config, hashes, report, console));
    } else if (!complete && world().first()) {
      log_error(cat(report.message, "; no model is written"));
    }
    if (world().first()) {
      std::filesystem::rename(folder.metrics(), std::filesystem::path(config.output) / folder.metrics().filename());
      // Only now: a disk that fills up while the model is written costs no training.
      std::filesystem::remove_all(folder.path().parent_path());
    }
    print(report, model, config.output, console);
    return complete ? ExitCode::kDone : ExitCode::kCellsFailed;
  }

 private:
  /// The course of the training stands in the model's folder, with models and events beside it.
  static JournalPlan journal_plan(const PretrainConfig& config, const CellFolder& folder, const Checkpoint& model) {
    JournalPlan plan;
    const std::filesystem::path output = config.output;
    plan.metrics = folder.metrics();
    if (config.train.tensorboard) plan.events = output / "tensorboard";
    plan.stage = plan.title = "pretrain";
    plan.checkpoints = config.train.keep_checkpoints;
    plan.keep = [&model, output](const std::string& name, const Json& about) {
      keep_checkpoint(model, output / "checkpoints" / name, about);
    };
    return plan;
  }

  std::vector<std::string> assignments() const {
    std::vector<std::string> all = set_;
    if (device_) parse_device(*device_, "--device");
    if (device_) all.push_back("device=" + *device_);
    if (products_) parse_products(*products_, "--products");
    if (products_) all.push_back("products=" + *products_);
    return all;
  }

  static Decoder first_weights(const PretrainConfig& config) {
    if (config.from.empty()) return initialize_decoder(config.spec(), config.seed, config.initializer_range());
    try {
      return pool_kv_heads(load_checkpoint(config.from).decoder, config.spec());
    } catch (const ConfigError& error) {
      throw ConfigError(cat("from = ", config.from, ": ", error.what()));
    }
  }

  /// Content hashes of what it begins with and of the files trained on, by role, in the config's order.
  using DataHashes = std::vector<std::pair<std::string, std::string>>;
  static DataHashes data_hashes(const PretrainConfig& config) {
    DataHashes hashes;
    if (!config.from.empty()) {
      for (const auto& [role, file] : files_of_model(config.from, "from"))
        hashes.emplace_back(role, hash_data_file(file));
    }
    for (const auto& [role, file] : files_of_tokenizer(config.tokenizer, "tokenizer"))
      hashes.emplace_back(role, hash_file(file));
    for (const auto& [role, data] : config.train.sources("train")) {
      for (std::size_t i = 0; i < data->files.size(); ++i)
        hashes.emplace_back(cat(role, "[", i, "]"), hash_data_file(data->files[i]));
    }
    return hashes;
  }

  /// Of everything that the trained model depends on.
  static std::string content_hash(const PretrainConfig& config, const DataHashes& hashes) {
    Json content = Json::object();
    for (const auto& [role, hash] : hashes) content[role] = hash;
    return hash_json({{"pretrain", identity_of_fields(config)}, {"data_hashes", content}});
  }

  /// The record of a model's making.
  static RunRecord record_of(const PretrainConfig& config, const DataHashes& hashes, const TrainingReport& report,
                             const Console& console) {
    RunRecord record;
    record.head.experiment = "pretrain";
    record.head.cell = std::filesystem::path(config.output).filename().string();
    record.head.content_hash = content_hash(config, hashes);
    record.head.created = utc_now();
    record.config = write_fields(config);
    record.provenance = provenance_of(console);
    record.provenance.seed = config.seed;
    record.provenance.threads = console.workers();
    record.provenance.device = config.device;
    for (const auto& [role, hash] : hashes) record.provenance.data_hashes[role] = hash;
    record.seconds.emplace_back("train", report.seconds);
    append_series(report, record.training);
    return record;
  }

  /// Throws ConfigError for sequences longer than the model's positions.
  static void check_length(std::int64_t longest, const PretrainConfig& config) {
    if (const std::int64_t positions = config.spec().max_positions; longest > positions) {
      throw ConfigError(
          cat("train: sequences of ", longest, " tokens, but config.max_position_embeddings = ", positions));
    }
  }

  /// The ids that begin and end a text, where the config leaves them open.
  static void name_special_tokens(const Tokenizer& tokenizer, Json& config) {
    if (tokenizer.bos() && !config.contains("bos_token_id")) config["bos_token_id"] = *tokenizer.bos();
    if (tokenizer.eos() && !config.contains("eos_token_id")) config["eos_token_id"] = *tokenizer.eos();
  }

  static void store_as(const std::string& dtype, Checkpoint& model) {
    const at::ScalarType type = parse_dtype(dtype, "dtype");
    model.decoder.visit_parameters([&](const std::string&, at::Tensor& tensor) { tensor = tensor.to(type); });
    model.config["torch_dtype"] = dtype;
  }

  static void print(const TrainingReport& report, const Checkpoint& model, const std::string& output,
                    Console& console) {
    const double final_loss = mean_of_last(report.loss);
    console.report({{"output", output},
                    {"status", write_fields(report.status)},
                    {"message", report.message},
                    {"parameters", model.decoder.parameter_count()},
                    {"steps", report.step.size()},
                    {"tokens", report.tokens.back()},
                    {"first_loss", report.loss.front()},
                    {"final_loss", final_loss},
                    {"seconds", report.seconds},
                    {"tokens_per_second", report.tokens_per_second()},
                    {"peak_memory_bytes", peak_memory_bytes()}});
    console.text() << grouped(model.decoder.parameter_count()) << " parameters, " << report.step.size() << " steps, "
                   << grouped(report.tokens.back()) << " tokens, " << rounded(report.tokens_per_second(), 3)
                   << " tokens/s; loss " << rounded(report.loss.front(), 4) << " -> " << rounded(final_loss, 4)
                   << " nats per token (mean of the last " << std::min(kFinalSteps, report.loss.size()) << " steps)\n";
    if (report.status == TrainingStatus::kComplete) console.text() << "written to " << output << "\n";
  }

  std::filesystem::path config_;
  std::vector<std::string> set_;
  std::optional<std::string> device_, products_;
};

const CommandRegistration<Pretrain> kPretrain("pretrain", "train a new model, from nothing or from another's weights",
                                              {"mlaforge pretrain configs/toy/pretrain_mha.json",
                                               "mlaforge pretrain configs/toy/pretrain_mha.json --set train.steps=1000",
                                               "mpirun -n 2 mlaforge pretrain configs/toy/pretrain_mha.json"});

}  // namespace
}  // namespace mla
