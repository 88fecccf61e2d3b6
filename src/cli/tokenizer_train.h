// fathom tokenizer train.
#pragma once

namespace CLI {
class App;
}

namespace fathom::cli {

void AddTokenizerTrain(CLI::App& tokenizer, int& exit_code);

}  // namespace fathom::cli
