// The functions of Asio and Beast that are no templates (BOOST_ASIO_SEPARATE_COMPILATION), once for the folder.
#include <boost/asio/impl/src.hpp>
#include <boost/asio/ssl/impl/src.hpp>
#include <boost/beast/src.hpp>
