//! The cookie that browsers sign in with.
//!
//! Owns: its names, reading it, giving it and taking it back. Refuses to know: what its token opens, and when it is given.

use actix_web::cookie::{Cookie, SameSite, time::Duration};
use actix_web::http::header::{self, HeaderMap};

/// Its name over TLS. A browser takes a cookie of this prefix only from this very host, by https: otherwise any site under the same parent
/// domain could give somebody a cookie of its own, and have them write as whoever that signs in (RFC 6265bis, 4.1.3.2).
const OF_THIS_HOST: &str = "__Host-homeroom_login";
/// Its name over plain http, where browsers refuse that prefix. Over TLS it was this, too, in earlier versions.
const PLAIN: &str = "homeroom_login";
/// How long a browser keeps the cookie after it was last given. The server decides whether it is still worth anything.
const KEPT: Duration = Duration::days(30);

/// The name of what is given.
#[must_use]
pub fn name(is_encrypted: bool) -> &'static str {
    if is_encrypted { OF_THIS_HOST } else { PLAIN }
}

/// The token in a request's cookie. The plain name counts only where there is no other: anybody may have set that one.
#[must_use]
pub fn token(headers: &HeaderMap) -> Option<String> {
    [OF_THIS_HOST, PLAIN].into_iter().find_map(|name| value(headers, name))
}

/// What keeps this token. It may be given again: a sign-in that is used lasts, so its cookie must too.
pub fn keeping(token: &str, is_encrypted: bool) -> impl Iterator<Item = Cookie<'static>> {
    names(is_encrypted).iter().map(move |name| cookie(name, token.to_owned(), KEPT, is_encrypted))
}

/// What takes it back.
pub fn forgotten(is_encrypted: bool) -> impl Iterator<Item = Cookie<'static>> {
    names(is_encrypted).iter().map(move |name| cookie(name, String::new(), Duration::ZERO, is_encrypted))
}

/// The names under which it is kept. The plain one is kept over TLS, too: nodes of the version before know no other, and a page whose
/// sign-in is unknown to the node that it comes to forgets what it holds.
fn names(is_encrypted: bool) -> &'static [&'static str] {
    if is_encrypted { &[OF_THIS_HOST, PLAIN] } else { &[PLAIN] }
}

fn value(headers: &HeaderMap, name: &str) -> Option<String> {
    let sent = headers.get_all(header::COOKIE).filter_map(|value| value.to_str().ok());
    sent.flat_map(|value| value.split(';'))
        .filter_map(|pair| Cookie::parse(pair.trim()).ok())
        .find(|cookie| cookie.name() == name)
        .map(|cookie| cookie.value().to_owned())
}

/// Not for scripts, not for other sites, and only over TLS where there is any.
fn cookie(name: &'static str, value: String, max_age: Duration, is_encrypted: bool) -> Cookie<'static> {
    Cookie::build(name, value)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(is_encrypted)
        .max_age(max_age)
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_that_another_site_could_have_set_counts_only_where_there_is_no_other() {
        for (sent, expected) in [
            (&["homeroom_login=theirs; __Host-homeroom_login=mine"][..], Some("mine")),
            (&["homeroom_login=theirs", "x=y; __Host-homeroom_login=mine"], Some("mine")),
            (&["x=y;homeroom_login=before"], Some("before")),
            (&["x_homeroom_login=a; __Secure-homeroom_login=b; homeroom_login"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in sent {
                headers.append(header::COOKIE, value.parse().unwrap());
            }
            assert_eq!(token(&headers).as_deref(), expected, "{sent:?}");
        }
    }

    #[test]
    fn over_tls_a_browser_takes_the_cookie_from_this_host_alone() {
        let given: Vec<_> = keeping("secret", true).map(|cookie| cookie.to_string()).collect();
        assert_eq!(
            given[0], "__Host-homeroom_login=secret; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=2592000",
            "no Domain, or the prefix is refused"
        );
        assert!(given.len() == 2 && given[1].starts_with("homeroom_login=secret; "), "{given:?}");
        let plain: Vec<_> = keeping("secret", false).map(|cookie| cookie.to_string()).collect();
        assert_eq!(plain, ["homeroom_login=secret; HttpOnly; SameSite=Lax; Path=/; Max-Age=2592000"]);
    }
}
