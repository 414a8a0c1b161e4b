//! E-mail by the user's own mail server.
//!
//! The Message-ID is made from the notice, so a message that was taken although its acknowledgement got lost is recognised when it
//! comes again. Headers are built by the library from one-line text; nothing foreign is put together with a header by hand.

use super::secret::{self, Secrets};
use super::told::{Told, key_of_firing};
use super::{Adapter, Around, Fault, excerpt};
use async_trait::async_trait;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use moon_actors::port::{Notice, Notifier};
use moon_actors::settings::route::{self, Email};
use moon_actors::{Error, Result};
use secrecy::ExposeSecret;
use std::sync::Arc;
use std::time::Duration;

/// Answers of a server to a login it does not like, or to one that is missing.
const LOGIN: [u16; 4] = [530, 534, 535, 538];

pub(super) struct EmailRoute {
    name: String,
    email: Email,
    timeout: Duration,
    around: Arc<Around>,
}

/// Says that no person wrote this, so that no absent person answers (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }
    fn parse(_: &str) -> std::result::Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }
    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

impl EmailRoute {
    pub(super) fn new(name: String, email: Email, timeout: Duration, around: Arc<Around>) -> Self {
        Self { name, email, timeout, around }
    }

    /// This machine's name where an address needs one.
    fn domain(&self) -> String {
        let is_fit = |c: &char| c.is_ascii_alphanumeric() || *c == '-' || *c == '.';
        let domain: String = self.around.host.chars().filter(is_fit).take(100).collect();
        let domain = domain.trim_matches(['-', '.']);
        if domain.is_empty() { "localhost".into() } else { domain.into() }
    }

    fn mailbox(&self, key: &str, address: &str) -> Result<Mailbox> {
        address.parse().map_err(|e| {
            Error::unavailable("route.address", format!("{key} of the route {:?} is not an e-mail address", self.name))
                .cause(format!("{address:?}: {e}"))
        })
    }

    fn message(&self, notice: &Notice) -> Result<Message> {
        let told = Told::new(notice, &self.around.host);
        let domain = self.domain();
        let from = self.email.from.clone().unwrap_or_else(|| format!("Moon <moon@{domain}>"));
        let mut message = Message::builder()
            .from(self.mailbox("from", &from)?)
            .subject(format!("{} {}", self.email.subject_prefix, told.title).trim())
            .message_id(Some(format!("<{}@{domain}>", told.key)))
            .date_now()
            .header(AutoSubmitted)
            .header(ContentType::TEXT_PLAIN);
        for address in &self.email.to {
            message = message.to(self.mailbox("to", address)?);
        }
        if let Notice::Escalation(alert) | Notice::Alert(alert) = notice
            && told.state != "firing"
        {
            let first = format!("<{}@{domain}>", key_of_firing(alert));
            message = message.in_reply_to(first.clone()).references(first);
        }
        message.body(told.text()).map_err(|e| Error::data("route.rejected", "could not write the mail").cause(e))
    }

    fn transport(&self, secrets: &mut Secrets) -> Result<AsyncSmtpTransport<Tokio1Executor>> {
        let email = &self.email;
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&email.host)
            .port(email.port)
            .timeout(Some(self.timeout))
            .tls(match email.tls {
                route::Tls::Starttls => Tls::Required(self.tls()?),
                route::Tls::Implicit => Tls::Wrapper(self.tls()?),
                route::Tls::None => Tls::None,
            });
        if let Some((name, file)) = &email.login {
            let password = secret::read_line(&self.around, "password_file", file)?;
            secrets.add(&password);
            // What PLAIN sends: some servers repeat the line they did not like.
            secrets.add(&format!("\0{name}\0{}", password.expose_secret()).into());
            builder = builder.credentials(Credentials::new(name.clone(), password.expose_secret().to_owned()));
        }
        Ok(builder.build())
    }

    fn tls(&self) -> Result<TlsParameters> {
        let mut parameters = TlsParameters::builder(self.email.host.clone());
        if let Some(authority) = self.authority()? {
            parameters = parameters.certificate_store(CertificateStore::None).add_root_certificate(authority);
        }
        parameters.build().map_err(|e| unusable_authority(&e))
    }

    fn authority(&self) -> Result<Option<Certificate>> {
        let Some(file) = &self.email.ca_file else { return Ok(None) };
        let pem = secret::read_file(&self.around, "ca_file", file)?;
        Certificate::from_pem(pem.as_bytes()).map(Some).map_err(|e| unusable_authority(&e))
    }

    fn judge(&self, error: &lettre::transport::smtp::Error, secrets: &Secrets) -> Error {
        let (host, port) = (&self.email.host, self.email.port);
        let cause = excerpt(&secrets.clean(&error.to_string()));
        let status = error.status().map(u16::from);
        if error.is_permanent() && !status.is_some_and(|code| LOGIN.contains(&code)) {
            let failed = Error::data("route.rejected", format!("the mail server {host}:{port} refuses the mail"));
            return failed.cause(cause).hint("see what it says about the addresses `from` and `to`");
        }
        if error.is_permanent() || error.is_client() {
            let failed =
                Error::unavailable("route.login", format!("the mail server {host}:{port} does not let Moon in"));
            return failed.cause(cause).hint("see `username` and `password_file` of the route");
        }
        if error.is_transient() {
            return Error::transient("route.busy", format!("the mail server {host}:{port} asks to try later"))
                .cause(cause);
        }
        let failed = Error::transient("route.unreachable", format!("could not send by the mail server {host}:{port}"));
        let hint = match cause.contains("CaUsedAsEndEntity") {
            // Proton's Bridge makes such certificates.
            true => {
                "the server's certificate is an authority itself, which is refused; a server on this machine can do with tls = \"none\""
            }
            false => "see `host`, `port`, `tls` and `ca_file` of the route",
        };
        failed.cause(cause).hint(hint)
    }
}

fn unusable_authority(cause: &dyn std::fmt::Display) -> Error {
    Error::unavailable("route.file", "cannot use ca_file").cause(cause).hint("it must hold certificates as PEM")
}

#[async_trait]
impl Notifier for EmailRoute {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(&self, notice: &Notice) -> Result<()> {
        let message = self.message(notice)?;
        let mut secrets = Secrets::default();
        let transport = self.transport(&mut secrets)?;
        transport.send(message).await.map(drop).map_err(|error| self.judge(&error, &secrets))
    }
}

impl Adapter for EmailRoute {
    /// Without TLS made ready: that would load the system's authorities, and a daemon that is idle has no use for them.
    fn ready(&self) -> Result<()> {
        if let Some((_, file)) = &self.email.login {
            secret::read_line(&self.around, "password_file", file)?;
        }
        self.authority()?;
        self.email.from.iter().try_for_each(|from| self.mailbox("from", from).map(drop))?;
        self.email.to.iter().try_for_each(|to| self.mailbox("to", to).map(drop))
    }

    fn faults(&self) -> Vec<Fault> {
        let named = self.email.from.iter().map(|from| ("from", from)).chain(self.email.to.iter().map(|to| ("to", to)));
        named.filter_map(|(key, address)| Some((key, super::address_fault(address)?))).collect()
    }
}
