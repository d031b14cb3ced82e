//! Signing in and out over HTTP, and the extractor that proves who asks.
//!
//! Owns: when the cookie is given, the bearer header, and where a state-changing request may come from.
//! Refuses to know: how secrets are stored, and what the cookie looks like (see `cookie`).

use super::{LoggedIn, Login, cookie};
use crate::error::HttpFault;
use crate::live::allowance::Turn;
use crate::log::AppendError;
use crate::web::Api;
use actix_web::cookie::Cookie;
use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, HttpResponse, get, patch, post, web};
use homeroom_protocol::{ChangeMe, ErrorCode, Fault, Keep, SignInWithCode, SignInWithLink, SignedIn, You};
use ipnet::IpNet;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

/// Where a browser says that a request comes from.
const SEC_FETCH_SITE: header::HeaderName = header::HeaderName::from_static("sec-fetch-site");
/// A wrong code is answered no sooner: how long the database worked would tell whether there is such a name.
const REFUSAL: std::time::Duration = std::time::Duration::from_millis(250);

/// Somebody who is signed in: asking for it in a signature is the check. While it is there, it is one of their requests under way.
pub struct Viewer(pub LoggedIn, #[expect(dead_code, reason = "its end is what it is for")] Turn);

impl FromRequest for Viewer {
    type Error = HttpFault;
    type Future = Pin<Box<dyn Future<Output = Result<Self, HttpFault>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let sign_in = || HttpFault::new(ErrorCode::Unauthenticated, "Sign in first.");
            let api = request.app_data::<web::Data<Api>>().cloned().ok_or_else(sign_in)?;
            let token = token(&request).ok_or_else(sign_in)?;
            match super::who(api.db(), &token).await? {
                Some(who) => {
                    let turn = api.node.allowances.turn(who.person).await;
                    Ok(Self(who, turn.map_err(|_closed| AppendError::Unavailable(None))?))
                }
                None => Err(HttpFault::new(
                    ErrorCode::Unauthenticated,
                    "This sign-in is unknown or has run out. Sign in again.",
                )),
            }
        })
    }
}

fn token(request: &HttpRequest) -> Option<String> {
    let bearer = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match bearer.and_then(|value| value.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Some(token.trim().to_owned()),
        _ => cookie::token(request.headers()),
    }
}

/// Uses up a one-time link.
#[utoipa::path(tag = "identity", request_body = SignInWithLink,
    responses((status = 200, body = SignedIn), (status = 401, body = Fault), (status = 403, body = Fault), (status = 429, body = Fault)))]
#[post("/sign-in/link")]
pub async fn sign_in_with_link(
    api: web::Data<Api>,
    request: HttpRequest,
    body: web::Json<SignInWithLink>,
) -> Result<HttpResponse, HttpFault> {
    api.from_own_page(&request)?;
    take(&api, &request, None)?;
    let login = super::sign_in_with_link(api.db(), &body.secret).await?;
    let refusal = "This link was used, has run out, or is not complete. Ask your school for a new one.";
    answer(&api, login, body.keep, refusal)
}

/// Uses up a one-time code.
#[utoipa::path(tag = "identity", request_body = SignInWithCode,
    responses((status = 200, body = SignedIn), (status = 401, body = Fault), (status = 403, body = Fault), (status = 429, body = Fault)))]
#[post("/sign-in/code")]
pub async fn sign_in_with_code(
    api: web::Data<Api>,
    request: HttpRequest,
    body: web::Json<SignInWithCode>,
) -> Result<HttpResponse, HttpFault> {
    api.from_own_page(&request)?;
    take(&api, &request, Some(&body.name))?;
    let refusal = tokio::time::Instant::now() + REFUSAL;
    let login = super::sign_in_with_code(api.db(), &body.name, &body.code).await?;
    if login.is_none() {
        tokio::time::sleep_until(refusal).await;
    }
    answer(
        &api,
        login,
        body.keep,
        "Name and code do not fit. After five tries a code is worth nothing: ask your school for a new one.",
    )
}

fn take(api: &Api, request: &HttpRequest, name: Option<&str>) -> Result<(), HttpFault> {
    let address = from(request, &api.trusted_proxies);
    api.sign_in_limits.take(address, name).map_err(|wait| {
        HttpFault(Fault::new(ErrorCode::RateLimited, "Too many tries. Wait a minute, then try again.").after(wait))
    })
}

/// Where a request comes from: its peer, or, where that is a trusted proxy, whom it names; and so on along the line of proxies, from the
/// nearest on. What stands before the first one that is not trusted may be anybody's invention.
fn from(request: &HttpRequest, trusted: &[IpNet]) -> Option<IpAddr> {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut address = request.peer_addr()?.ip().to_canonical();
    let named = request.headers().get_all(header::X_FORWARDED_FOR).filter_map(|value| value.to_str().ok());
    let named: Vec<&str> = named.flat_map(|value| value.split(',')).map(str::trim).collect();
    for name in named.into_iter().rev() {
        match name.parse::<IpAddr>() {
            Ok(before) if is_trusted(&address) => address = before.to_canonical(),
            _ => break,
        }
    }
    Some(address)
}

fn answer(api: &Api, login: Option<Login>, keep: Keep, refusal: &str) -> Result<HttpResponse, HttpFault> {
    let Some(login) = login else {
        api.counts.sign_ins_refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        return Err(HttpFault::new(ErrorCode::Unauthenticated, refusal));
    };
    api.counts.sign_ins.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let you = you(&login.who);
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    let token = match keep {
        Keep::Token => Some(login.token.reveal().to_owned()),
        Keep::Cookie => {
            for cookie in cookie::keeping(login.token.reveal(), api.is_encrypted) {
                response.cookie(cookie);
            }
            None
        }
    };
    Ok(response.json(SignedIn { you, token, expires_at: login.expires_at }))
}

fn you(who: &LoggedIn) -> You {
    You { person: who.person, name: who.name.clone(), language: who.language.clone() }
}

/// Signs this device out; its live sessions end.
#[utoipa::path(tag = "identity", responses((status = 204), (status = 401, body = Fault), (status = 403, body = Fault)))]
#[post("/sign-out")]
pub async fn sign_out(api: web::Data<Api>, request: HttpRequest, viewer: Viewer) -> Result<HttpResponse, HttpFault> {
    api.from_own_page(&request)?;
    super::sign_out(api.db(), viewer.0.login).await?;
    api.node.signed_out(viewer.0.login);
    let mut response = HttpResponse::NoContent();
    for cookie in cookie::forgotten(api.is_encrypted) {
        response.cookie(cookie);
    }
    Ok(response.finish())
}

/// Who is signed in.
#[utoipa::path(tag = "identity", responses((status = 200, body = You), (status = 401, body = Fault)))]
#[get("/me")]
pub async fn me(viewer: Viewer) -> web::Json<You> {
    web::Json(you(&viewer.0))
}

/// Changes what a person may change of themselves: the language they read.
#[utoipa::path(tag = "identity", request_body = ChangeMe,
    responses((status = 200, body = You), (status = 401, body = Fault), (status = 403, body = Fault)))]
#[patch("/me")]
pub async fn change_me(
    api: web::Data<Api>,
    request: HttpRequest,
    viewer: Viewer,
    body: web::Json<ChangeMe>,
) -> Result<web::Json<You>, HttpFault> {
    api.from_own_page(&request)?;
    super::choose_language(api.db(), viewer.0.person, &body.language).await?;
    Ok(web::Json(You { language: body.into_inner().language, ..you(&viewer.0) }))
}

impl Api {
    /// The cookie again, for a browser that signed in with it.
    #[must_use]
    pub fn renewed_cookie(&self, request: &HttpRequest) -> Vec<Cookie<'static>> {
        if request.headers().contains_key(header::AUTHORIZATION) {
            return Vec::new();
        }
        let token = cookie::token(request.headers());
        token.iter().flat_map(|token| cookie::keeping(token, self.is_encrypted)).collect()
    }

    /// A request that changes something must come from a page of this server, if it comes from a browser at all.
    ///
    /// # Errors
    /// `forbidden` when another site's page sent it.
    pub fn from_own_page(&self, request: &HttpRequest) -> Result<(), HttpFault> {
        let text = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
        let foreign = || Err(HttpFault::new(ErrorCode::Forbidden, "Pages of other sites may not do this."));
        if matches!(text(SEC_FETCH_SITE), Some("cross-site" | "same-site")) {
            return foreign();
        }
        let Some(origin) = text(header::ORIGIN) else { return Ok(()) };
        let host = text(header::HOST).unwrap_or_default();
        let same = origin.split_once("://").is_some_and(|(_, of)| !host.is_empty() && of.eq_ignore_ascii_case(host));
        let public = self.node.public_origin.as_deref().is_some_and(|public| public.eq_ignore_ascii_case(origin));
        if same || public { Ok(()) } else { foreign() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn a_proxy_is_believed_only_where_it_is_trusted_and_nothing_before_a_stranger() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        for (peer, forwarded, expected) in [
            ("203.0.113.9:1", "198.51.100.1", "203.0.113.9"),
            ("10.0.0.1:1", "198.51.100.1", "198.51.100.1"),
            ("10.0.0.1:1", "192.0.2.66, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
            ("10.0.0.1:1", "nonsense", "10.0.0.1"),
            ("[::1]:1", "2001:db8::7", "2001:db8::7"),
            ("[::ffff:10.0.0.1]:1", "198.51.100.1", "198.51.100.1"),
        ] {
            let request = TestRequest::default()
                .peer_addr(peer.parse().unwrap())
                .insert_header((header::X_FORWARDED_FOR, forwarded))
                .to_http_request();
            assert_eq!(from(&request, &trusted), Some(expected.parse().unwrap()), "{peer} {forwarded}");
        }
    }
}
