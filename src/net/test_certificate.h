// For tests: a key and a certificate of localhost, signed by itself, as PEM files in a temporary folder.
#pragma once

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cstdio>
#include <string>

namespace fathom::net {

class TestCertificate {
 public:
  TestCertificate() : cert_(::testing::TempDir() + "fathom-cert.pem"), key_(::testing::TempDir() + "fathom-key.pem") {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* cert = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME* name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("localhost"), -1, -1,
                               0);
    X509_set_issuer_name(cert, name);
    EXPECT_NE(X509_sign(cert, key, EVP_sha256()), 0);
    FILE* file = std::fopen(cert_.c_str(), "w");
    EXPECT_EQ(PEM_write_X509(file, cert), 1);
    std::fclose(file);
    file = std::fopen(key_.c_str(), "w");
    EXPECT_EQ(PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr), 1);
    std::fclose(file);
    X509_free(cert);
    EVP_PKEY_free(key);
  }
  ~TestCertificate() {
    std::remove(cert_.c_str());
    std::remove(key_.c_str());
  }
  const std::string& cert() const { return cert_; }
  const std::string& key() const { return key_; }

 private:
  std::string cert_, key_;
};

}  // namespace fathom::net
