//! One POST to a configured receiver, and to nobody else.
//!
//! No redirects, no proxies, a connection of its own, a deadline. Addresses are judged where the connection is made, after the name was
//! resolved, so a name that turns to a private address between two looks is refused like the address itself. Nothing of an answer's body is
//! read when the receiver took the notice, and little of it when it did not. Errors carry the host at most: the rest of an address may
//! be what lets one post.

use super::secret::{self, Secrets};
use super::{Around, Fault, Names, excerpt};
use moon_actors::settings::route::{Address, Http};
use moon_actors::{Error, Result};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of an unwilling answer that are read.
const ANSWER: usize = 4 << 10;
/// A receiver may ask for silence, but not for ever.
const LONGEST_SILENCE: Duration = Duration::from_secs(3600);

/// A receiver.
pub(super) struct Receiver {
    http: Http,
    timeout: Duration,
    around: Arc<Around>,
    /// Until when it has asked to be left alone.
    silent: Mutex<Option<Instant>>,
}

/// What is posted.
pub(super) struct Post {
    pub(super) content_type: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

/// Everything a request needs, read from its files.
struct Prepared {
    url: Url,
    headers: HeaderMap,
    secrets: Secrets,
    client: reqwest::Client,
}

impl Receiver {
    pub(super) fn new(http: Http, timeout: Duration, around: Arc<Around>) -> Self {
        Self { http, timeout, around, silent: Mutex::default() }
    }

    /// Whether it could be tried now. Without a client: that would load the system's authorities, and a daemon that is idle has no use
    /// for them.
    pub(super) fn ready(&self) -> Result<()> {
        let mut secrets = Secrets::default();
        self.url("", &mut secrets)?;
        self.authorities()?;
        self.headers(&mut secrets).map(drop)
    }

    /// What is wrong with an address that stands in the settings themselves.
    pub(super) fn fault(&self) -> Option<Fault> {
        let Address::Url(_) = &self.http.address else { return None };
        let error = self.url("", &mut Secrets::default()).err()?;
        Some(("url", error.in_full()))
    }

    /// Posts to the receiver's address, with `below` behind its path.
    pub(super) async fn post(&self, below: &str, post: Post) -> Result<()> {
        if let Some(left) = self.silence() {
            let shown = humantime::format_duration(Duration::from_secs(left.as_secs() + 1));
            return Err(Error::transient(
                "route.busy",
                format!("the receiver asked to be left alone for another {shown}"),
            ));
        }
        let Prepared { url, headers, secrets, client } = self.prepare(below)?;
        let host = host(&url);
        let mut request = client.post(url).headers(headers).header(reqwest::header::CONTENT_TYPE, post.content_type);
        for (name, value) in post.headers {
            request = request.header(name, value);
        }
        match request.body(post.body).send().await {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => Err(self.unwilling(&host, response, &secrets).await),
            Err(error) => Err(unreachable(&host, error, &secrets)),
        }
    }

    fn silence(&self) -> Option<Duration> {
        let until = *self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        until.and_then(|until| until.checked_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    fn prepare(&self, below: &str) -> Result<Prepared> {
        let mut secrets = Secrets::default();
        let url = self.url(below, &mut secrets)?;
        let mut client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .https_only(!self.http.allow_http)
            .pool_max_idle_per_host(0)
            .timeout(self.timeout)
            .connect_timeout(self.timeout)
            .user_agent(concat!("moon/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(Guard {
                names: Arc::clone(&self.around.names),
                allow_private: self.http.allow_private,
            }));
        if let Some(authorities) = self.authorities()? {
            client = client.tls_certs_only(authorities);
        }
        let headers = self.headers(&mut secrets)?;
        let client = client.build().map_err(|e| unusable_authority(&e.without_url()))?;
        Ok(Prepared { url, headers, secrets, client })
    }

    fn headers(&self, secrets: &mut Secrets) -> Result<HeaderMap> {
        match &self.http.headers_file {
            Some(file) => headers(&secret::read(&self.around, "headers_file", file)?, secrets),
            None => Ok(HeaderMap::new()),
        }
    }

    /// The only ones to be trusted, if the settings name them.
    fn authorities(&self) -> Result<Option<Vec<reqwest::Certificate>>> {
        let Some(file) = &self.http.ca_file else { return Ok(None) };
        let pem = secret::read_file(&self.around, "ca_file", file)?;
        let found =
            reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(|e| unusable_authority(&e.without_url()))?;
        match found.is_empty() {
            true => Err(unusable_authority(&"it holds no certificate")),
            false => Ok(Some(found)),
        }
    }

    fn url(&self, below: &str, secrets: &mut Secrets) -> Result<Url> {
        let (key, text) = match &self.http.address {
            Address::Url(url) => ("url", SecretString::from(url.as_str())),
            Address::File(file) => ("url_file", secret::read_line(&self.around, "url_file", file)?),
        };
        let wrong = |cause: String| {
            let failed = Error::unavailable("route.address", format!("cannot use the address in {key}")).cause(cause);
            failed.hint("it must be the whole address, https:// and a host, without a name or password in it")
        };
        // The parser's own words never repeat the text.
        let mut url = Url::parse(text.expose_secret().trim()).map_err(|e| wrong(e.to_string()))?;
        if key == "url_file" {
            let parts = [url.path().trim_matches('/'), url.query().unwrap_or_default()];
            // Whole, and what somebody might repeat of it.
            let words = parts.iter().flat_map(|part| part.split(['/', '&', '=', ';'])).filter(|word| word.len() > 8);
            parts.into_iter().chain(words).for_each(|part| secrets.add(&part.into()));
        }
        match url.scheme() {
            "https" => {}
            "http" if self.http.allow_http => {}
            "http" => return Err(wrong("not https, and allow_http is not set".into())),
            _ => return Err(wrong("neither https nor http".into())),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it holds a name or a password; that belongs into headers_file".into()));
        }
        if !below.is_empty() {
            url.set_path(&format!("{}{below}", url.path().trim_end_matches('/')));
        }
        // A literal address is never resolved, so the resolver does not see it. The URL's parser has read every spelling of it.
        // And `localhost` is this machine everywhere (RFC 6761).
        let literal = url.host_str().and_then(|host| match host == "localhost" || host.ends_with(".localhost") {
            true => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            false => host.trim_matches(['[', ']']).parse::<IpAddr>().ok(),
        });
        match literal.filter(|address| !self.http.allow_private && !is_public(*address)) {
            Some(address) => Err(refused(&NotPublic { host: host(&url), address })),
            None => Ok(url),
        }
    }

    async fn unwilling(&self, host: &str, response: Response, secrets: &Secrets) -> Error {
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(after);
        let said = excerpt(&secrets.clean(&answer(response).await));
        let cause = if said.is_empty() { status.to_string() } else { format!("{status}: {said}") };
        let is_later = status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE;
        if let Some(wait) = retry_after.filter(|_| is_later) {
            let until = Instant::now() + wait.min(LONGEST_SILENCE);
            *self.silent.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
            let shown = humantime::format_duration(wait.min(LONGEST_SILENCE));
            let failed = Error::transient("route.busy", format!("{host} asks to be left alone for {shown}"));
            return failed.cause(cause);
        }
        match status.as_u16() {
            300..=399 => {
                Error::unavailable("route.redirected", format!("{host} sends Moon elsewhere, which it does not follow"))
                    .cause(status)
                    .hint("set the address to the final one")
            }
            401 | 403 | 404 | 407 | 410 => {
                Error::unavailable("route.login", format!("{host} does not let Moon post there"))
                    .cause(cause)
                    .hint("see the address and `headers_file` of the route: it is wrong, was changed or was withdrawn")
            }
            408 | 425 | 429 => Error::transient("route.busy", format!("{host} asks to try later")).cause(cause),
            400..=499 => Error::data("route.rejected", format!("{host} refuses the notice")).cause(cause),
            _ => Error::transient("route.unreachable", format!("{host} fails")).cause(cause),
        }
    }
}

fn unusable_authority(cause: &dyn std::fmt::Display) -> Error {
    Error::unavailable("route.file", "cannot use ca_file").cause(cause).hint("it must hold certificates as PEM")
}

/// Seconds or a date, as RFC 9110 has it.
fn after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds.ceil()).ok();
    }
    let at = chrono::DateTime::parse_from_rfc2822(value.trim()).ok()?;
    Some((at.to_utc() - chrono::Utc::now()).to_std().unwrap_or_default())
}

/// The first bytes of a body. A receiver that never ends one is cut off by the request's deadline.
async fn answer(mut response: Response) -> String {
    let mut kept = Vec::new();
    while kept.len() < ANSWER
        && let Ok(Some(piece)) = response.chunk().await
    {
        kept.extend_from_slice(&piece[..piece.len().min(ANSWER - kept.len())]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// What a person may see of an address.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn unreachable(host: &str, error: reqwest::Error, secrets: &Secrets) -> Error {
    let error = error.without_url();
    let mut chain = Vec::new();
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = next {
        if let Some(refusal) = error.downcast_ref::<NotPublic>() {
            return refused(refusal);
        }
        chain.push(error.to_string());
        next = error.source();
    }
    // Each says what the next one says again.
    let cause = excerpt(&secrets.clean(chain.last().map(String::as_str).unwrap_or_default()));
    match error.is_timeout() {
        true => Error::transient("route.timeout", format!("{host} did not answer in time")).cause(cause),
        false => Error::transient("route.unreachable", format!("could not post to {host}")).cause(cause),
    }
}

/// Lines of `Name: value`.
fn headers(text: &SecretString, secrets: &mut Secrets) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (number, line) in text.expose_secret().lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = || {
            Error::unavailable("route.secret", format!("cannot use line {} of headers_file", number + 1))
                .cause("not a header")
                .hint("one header a line, as in `Authorization: Bearer ...`")
        };
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
        let mut held = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
        held.set_sensitive(true);
        secrets.add(&value.trim().into());
        for word in value.split_whitespace().filter(|word| word.len() > 8) {
            secrets.add(&word.into());
        }
        headers.append(name, held);
    }
    Ok(headers)
}

/// Lets a name through only when every address it has may be talked to.
struct Guard {
    names: Arc<dyn Names>,
    allow_private: bool,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, allow_private) = (Arc::clone(&self.names), self.allow_private);
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = names.addresses(&host).await?;
            if let Some(address) = found.iter().copied().find(|address| !allow_private && !is_public(*address)) {
                return Err(NotPublic { host, address }.into());
            }
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

#[derive(Debug)]
struct NotPublic {
    host: String,
    address: IpAddr,
}

impl std::fmt::Display for NotPublic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What was named by its address is not called so twice.
        let with_port = self.host.parse::<SocketAddr>().map(|address| address.ip());
        if self.host.trim_matches(['[', ']']).parse().or(with_port) == Ok(self.address) {
            return f.write_str("that is not an address of the public internet");
        }
        write!(f, "{} is {}, which is not an address of the public internet", self.host, self.address)
    }
}

impl std::error::Error for NotPublic {}

fn refused(refusal: &NotPublic) -> Error {
    Error::unavailable("route.address_refused", format!("Moon does not post to {}", refusal.host))
        .cause(refusal)
        .hint("allow_private = true lets this route talk to this machine and to private networks")
}

/// Whether an address is one of the public internet, and no way to something inside in other words.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        // Shared by providers, for protocols, for benchmarks, reserved and broadcast.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
        || a >= 240)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    let inner = |high: u16, low: u16| is_public_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match s {
        // Version 4 inside: mapped, translated (NAT64) and 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            inner(high, low)
        }
        // Teredo carries one, too, in disguise; documentation; benchmarks and identifiers.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // The rest of the public internet so far; loopback, local, site and multicast addresses are all outside.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}
