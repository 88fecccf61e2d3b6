// A body for Beast's parsers whose pieces are handed to a sink as they come; included by the readers' .cpp files only.
#pragma once

#include <boost/beast/http/parser.hpp>
#include <string_view>

namespace fathom::net {

// Sink: default-constructible, with Take(std::string_view).
// NOLINTBEGIN(readability-identifier-naming): Beast asks for these names.
template <class Sink>
struct PieceBody {
  using value_type = Sink;
  class reader {
   public:
    using ErrorCode = boost::beast::error_code;
    template <bool kIsRequest, class Fields>
    reader(boost::beast::http::header<kIsRequest, Fields>&, value_type& body) : body_(body) {}
    void init(const boost::optional<uint64_t>&, ErrorCode& error) { error = {}; }
    template <class Buffers>
    size_t put(const Buffers& buffers, ErrorCode& error) {
      error = {};
      size_t taken = 0;
      for (auto it = boost::asio::buffer_sequence_begin(buffers); it != boost::asio::buffer_sequence_end(buffers);
           ++it) {
        const boost::asio::const_buffer piece = *it;
        body_.Take({static_cast<const char*>(piece.data()), piece.size()});
        taken += piece.size();
      }
      return taken;
    }
    void finish(ErrorCode& error) { error = {}; }

   private:
    value_type& body_;
  };
};
// NOLINTEND(readability-identifier-naming)

}  // namespace fathom::net
