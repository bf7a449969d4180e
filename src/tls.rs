//! How our HTTP clients trust a server: by the system's authorities, and those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
//!
//! They are read at the first handshake, once for all clients: a hundred and fifty certificates take milliseconds and
//! memory, and a machine that has none still reaches what speaks plain HTTP.

use std::sync::{Arc, LazyLock, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;

static AUTHORITIES: LazyLock<Arc<Authorities>> =
    LazyLock::new(|| Arc::new(Authorities { provider: Arc::new(ring::default_provider()), verifier: OnceLock::new() }));

/// For [`reqwest::ClientBuilder::tls_backend_preconfigured`].
///
/// # Errors
/// The provider knows no version of TLS.
pub fn configuration() -> Result<ClientConfig, Error> {
    let authorities = AUTHORITIES.clone();
    let builder =
        ClientConfig::builder_with_provider(authorities.provider.clone()).with_safe_default_protocol_versions()?;
    // It hands each question on to the verifier that reqwest itself would take.
    let mut configuration = builder.dangerous().with_custom_certificate_verifier(authorities).with_no_client_auth();
    configuration.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(configuration)
}

#[derive(Debug)]
struct Authorities {
    provider: Arc<CryptoProvider>,
    verifier: OnceLock<Verifier>,
}

impl Authorities {
    /// Where they cannot be read, the next handshake tries again.
    fn verifier(&self) -> Result<&Verifier, Error> {
        if let Some(verifier) = self.verifier.get() {
            return Ok(verifier);
        }
        let verifier = Verifier::new(self.provider.clone())?;
        Ok(self.verifier.get_or_init(|| verifier))
    }
}

impl ServerCertVerifier for Authorities {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verifier()?.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
