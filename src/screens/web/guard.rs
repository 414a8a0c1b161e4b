//! Who may look: the token, the cookie it is exchanged for, and the names by which this machine may be called.

use crate::home::Home;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use moon_actors::{Error, Result};
use sha2::Sha256;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// A browser stays let in for this long, seconds.
const COOKIE_AGE: u64 = 30 * 86_400;

/// The token of a home's page, made at first use. To lock everybody out remove the file and restart the daemon.
pub fn token(home: &Home) -> Result<String> {
    let path = home.dashboard_token();
    let failed = |e: &dyn std::fmt::Display| {
        Error::config("dashboard.token", format!("could not use the page's token {}", path.display()))
            .cause(e)
            .hint("remove that file: a new token is made")
    };
    let mut text = String::new();
    match crate::durable::open_regular(&path) {
        Ok(file) => file.take(1024).read_to_string(&mut text).map_err(|e| failed(&e))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let mut bytes = [0; TOKEN_BYTES];
            getrandom::fill(&mut bytes).map_err(|e| failed(&e))?;
            text = BASE64URL_NOPAD.encode(&bytes);
            crate::durable::replace(&path, text.as_bytes()).map_err(|e| failed(&e))?;
            text.len()
        }
        Err(e) => return Err(failed(&e)),
    };
    let token = text.trim().to_owned();
    // A short one could be guessed, and an empty one would let everybody in.
    if token.len() < 32 {
        return Err(failed(&"it is too short"));
    }
    Ok(token)
}

pub(super) struct Gate {
    token: String,
    port: u16,
    cookie: String,
    exposed: bool,
}

impl Gate {
    pub(super) fn new(token: String, bound: SocketAddr, exposed: bool) -> Self {
        let port = bound.port();
        // A cookie knows no port: two moons on one machine need two names.
        Self { token, port, cookie: format!("moon_dashboard_{port}"), exposed }
    }

    fn code(&self, purpose: &str) -> Hmac<Sha256> {
        let mut code = Hmac::<Sha256>::new_from_slice(self.token.as_bytes()).expect("a key of any length will do");
        code.update(purpose.as_bytes());
        code
    }

    /// What the browser keeps: not the token itself, and worthless once that is another one.
    fn session(&self) -> String {
        HEXLOWER.encode(&self.code("moon dashboard session").finalize().into_bytes())
    }

    /// Compared by their codes under a key that the other side does not know: the time says nothing.
    fn is_token(&self, offered: &str) -> bool {
        self.code(offered).verify_slice(&self.code(&self.token).finalize().into_bytes()).is_ok()
    }

    fn is_session(&self, offered: &str) -> bool {
        let offered = HEXLOWER.decode(offered.as_bytes()).unwrap_or_default();
        self.code("moon dashboard session").verify_slice(&offered).is_ok()
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let all = |name: header::HeaderName| headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            all(header::COOKIE).flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.any(|(name, value)| name == self.cookie && self.is_session(value))
            || all(header::AUTHORIZATION)
                .filter_map(|line| line.strip_prefix("Bearer "))
                .any(|t| self.is_token(t.trim()))
    }

    /// A name can be made to point here by whoever owns it; an address cannot.
    fn may_be_called(&self, host: &str) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !name.is_empty() && !port.contains(']') => (name, port.parse().ok()),
            _ => (host, Some(80)),
        };
        if port != Some(self.port) {
            return false;
        }
        let literal = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
        name.eq_ignore_ascii_case("localhost")
            || literal.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || self.exposed)
    }
}

/// The checks before anything is answered, in this order: by what name, by whom, and what is wanted.
pub(super) async fn guard(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).into_iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let others = hosts.count();
    // Since HTTP/1.1 an address in the request line wins over the header: then it has to be right as well.
    let line = request.uri().authority().map(|authority| authority.as_str());
    if others > 0
        || !host.is_some_and(|host| gate.may_be_called(host))
        || !line.is_none_or(|line| gate.may_be_called(line))
    {
        return refused(StatusCode::MISDIRECTED_REQUEST, "This page answers to the address of this machine only.");
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "This page can only be looked at.");
    }
    if let Some(offered) = offered(request.uri()) {
        return match gate.is_token(&offered) {
            true => welcome(&gate),
            false => {
                refused(StatusCode::UNAUTHORIZED, "That is not the token. Run `moon dashboard web` for the address.")
            }
        };
    }
    if !gate.knows(headers) {
        return refused(
            StatusCode::UNAUTHORIZED,
            "This page needs its token. Run `moon dashboard web` for the address.",
        );
    }
    next.run(request).await
}

/// The token in an address: `/?token=…`.
fn offered(uri: &Uri) -> Option<String> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == "token").map(|(_, value)| value.to_owned()).next()
}

/// Gives the cookie and leads on to an address without the token. By a page and not by a redirect: a browser that came from another
/// site sends a strict cookie only with the next step of its own.
fn welcome(gate: &Gate) -> Response {
    let cookie = format!("{}={}; HttpOnly; SameSite=Strict; Path=/; Max-Age={COOKIE_AGE}", gate.cookie, gate.session());
    let mut response = html(StatusCode::OK, "<meta http-equiv=\"refresh\" content=\"0;url=/\">", "One moment.");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

fn refused(status: StatusCode, said: &str) -> Response {
    html(status, "", said)
}

/// A page of one sentence of Moon's own.
fn html(status: StatusCode, head: &str, said: &str) -> Response {
    let body = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light dark\"><link rel=\"icon\" href=\"data:,\">{head}\
         <title>moon</title></head><body><p>{said}</p></body></html>\n"
    );
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(exposed: bool) -> Gate {
        Gate::new("t".repeat(43), "127.0.0.1:8787".parse().expect("an address"), exposed)
    }

    #[test]
    fn only_addresses_of_this_machine_are_answered_to() {
        let gate = gate(false);
        for good in ["127.0.0.1:8787", "localhost:8787", "LOCALHOST:8787", "[::1]:8787", "127.8.9.1:8787"] {
            assert!(gate.may_be_called(good), "{good}");
        }
        for bad in [
            "evil.example:8787",
            "127.0.0.1.evil.example:8787",
            "127.0.0.1",
            "127.0.0.1:80",
            "192.0.2.1:8787",
            "",
            ":8787",
            "localhost.:8787",
            "[::1]",
            "localhost:8787:8787",
            "0.0.0.0:8787",
            "user@localhost:8787",
        ] {
            assert!(!gate.may_be_called(bad), "{bad}");
        }
        let exposed = self::gate(true);
        assert!(exposed.may_be_called("192.0.2.1:8787") && !exposed.may_be_called("evil.example:8787"));
    }

    #[test]
    fn a_token_and_its_cookie_are_known_and_nothing_else_is() {
        let gate = gate(false);
        let with = |name: header::HeaderName, value: &str| {
            let mut headers = HeaderMap::new();
            headers.append(name, HeaderValue::from_str(value).expect("a header"));
            gate.knows(&headers)
        };
        let session = gate.session();
        assert!(with(header::COOKIE, &format!("a=b; moon_dashboard_8787={session}; c=d")));
        assert!(with(header::AUTHORIZATION, &format!("Bearer {}", "t".repeat(43))));
        assert!(!with(header::COOKIE, &format!("moon_dashboard_8788={session}")));
        assert!(!with(header::COOKIE, &format!("moon_dashboard_8787={}", "t".repeat(43))), "the token is no cookie");
        assert!(!with(header::AUTHORIZATION, &format!("Bearer {session}")), "the cookie is no token");
        assert!(!with(header::AUTHORIZATION, "Bearer ") && !with(header::COOKIE, "moon_dashboard_8787="));
        assert!(!gate.is_token("") && !gate.is_token(&"t".repeat(42)));
    }

    #[test]
    fn a_token_is_made_once_private_and_never_empty() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let (home, _) = Home::open(scratch.path().join("home")).expect("a home");
        let made = token(&home).expect("made");
        assert!(made.len() >= 43);
        assert_eq!(token(&home).expect("kept"), made);
        let mode = std::fs::metadata(home.dashboard_token()).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        std::fs::write(home.dashboard_token(), " \n").expect("emptied");
        assert_eq!(token(&home).expect_err("would let everybody in").code, "dashboard.token");
    }
}
