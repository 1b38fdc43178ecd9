// What Debian's release of Oniguruma reads otherwise than the one inside the reference library.
#pragma once

#include <string>
#include <string_view>

namespace mla {

/// `regex`, written so that Oniguruma 6.9.8 finds in it what 6.9.10 (tokenizers 0.23) does: [:punct:] holds symbols
/// too, and \R may be repeated.
std::string in_reference_dialect(std::string_view regex);

/// Makes \p{…} of Oniguruma know Unicode 16. To be called once, after the library is initialized.
void define_unicode_properties();

}  // namespace mla
