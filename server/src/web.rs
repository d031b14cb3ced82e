//! HTTP: the API, its documents, health, and the web app inside the binary.
//!
//! Owns: which route belongs to whom, the headers that every answer carries, and serving embedded files.
//! Refuses to know: what the routes do, and WebSockets (they pass it by; see `live::socket`).

mod document;

use crate::accepted::ANSWERED;
use crate::conversation::routes as conversation;
use crate::db::Db;
use crate::identity::limits::Limits;
use crate::identity::routes as identity;
use crate::live::Node;
use crate::{error::HttpFault, fetch_optional};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, ETag, EntityTag, IfNoneMatch};
use actix_web::middleware::{Compress, DefaultHeaders, Next, from_fn};
use actix_web::{App, HttpMessage, HttpRequest, HttpResponse, ResponseError, web};
use homeroom_protocol::{ErrorCode, Fault};
use ipnet::IpNet;
use rust_embed::{EmbeddedFile, RustEmbed};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use utoipa::OpenApi;
use utoipa_actix_web::{AppExt, scope};

/// A request body; the largest holds a code or a language.
const BODY: usize = 16 * 1024;
/// Scripts, styles and connections of our own only; nothing inline; no frames around us.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Browsers that came by https once come by nothing else for a year (RFC 6797). Said over plain http it counts for nothing.
const STRICT_TRANSPORT_SECURITY: &str = "max-age=31536000";

/// The web app, as `make web` built it.
#[derive(RustEmbed)]
#[folder = "../clients/web/dist"]
#[allow_missing = true]
struct Dist;

/// What the routes share.
pub struct Api {
    /// The live part of this node.
    pub node: Arc<Node>,
    /// What its end of the bus counts.
    pub bus: Arc<crate::bus::Counts>,
    /// Browsers reach it by https: by its own TLS, or by a proxy's.
    pub is_encrypted: bool,
    /// How often somebody may try to sign in.
    pub sign_in_limits: Limits,
    /// Proxies whose word for where a request comes from is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// What is counted.
    pub counts: Counts,
}

/// What is counted, for `/metrics`.
#[derive(Debug, Default)]
pub struct Counts {
    /// Links and codes that were right.
    pub sign_ins: AtomicU64,
    /// Links and codes that were not.
    pub sign_ins_refused: AtomicU64,
}

impl Api {
    /// The database.
    #[must_use]
    pub fn db(&self) -> &Db {
        self.node.log.db()
    }
}

/// The application, and the OpenAPI document made from it.
pub fn app(
    api: web::Data<Api>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let (_, document) =
        App::new().into_utoipa_app().openapi(document::Document::openapi()).service(routes()).split_for_parts();
    let document = document::complete(&document, api.is_encrypted);
    let methods = document::Methods::of(&document);
    let document = web::Bytes::from(document.to_string());
    let app = App::new()
        .route(
            "/api/v1/openapi.json",
            web::get().to(move || {
                let document = document.clone();
                async move { HttpResponse::Ok().content_type("application/json").body(document) }
            }),
        )
        .route("/api/v1/schema.json", web::get().to(schema))
        .into_utoipa_app()
        .service(routes())
        .into_app();
    let words = |error: actix_web::error::JsonPayloadError| {
        let words: String = error.to_string().chars().take(200).collect();
        HttpFault::new(ErrorCode::Malformed, format!("The body can't be read: {words}")).into()
    };
    let headers = if api.is_encrypted {
        DefaultHeaders::new().add((header::STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT_SECURITY))
    } else {
        DefaultHeaders::new()
    };
    app.app_data(api)
        .app_data(web::JsonConfig::default().limit(BODY).error_handler(move |error, _| words(error)))
        .app_data(web::PathConfig::default().error_handler(|_, _| HttpFault::missing("thing").into()))
        .app_data(web::QueryConfig::default().error_handler(|error, _| {
            HttpFault::new(ErrorCode::Malformed, format!("The address can't be read: {error}")).into()
        }))
        .route("/health/live", web::get().to(live))
        .route("/health/ready", web::get().to(ready))
        .app_data(web::Data::new(methods))
        .default_service(web::to(page))
        .wrap(from_fn(as_it_is))
        .wrap(
            headers
                .add((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
                // What is said about children stays out of caches, unless a route says otherwise (the app's own files do).
                .add((header::CACHE_CONTROL, "no-store"))
                .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
                // Links hold secrets.
                .add((header::REFERRER_POLICY, "no-referrer"))
                .add(("Permissions-Policy", "camera=(), microphone=(), geolocation=()"))
                .add(("Cross-Origin-Opener-Policy", "same-origin")),
        )
        .wrap(Compress::default())
}

/// A body that is packed is refused unread: a few of its bytes may be a thousand times as many, and bodies are bounded as they come.
async fn as_it_is(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let mut encodings = request.headers().get_all(header::CONTENT_ENCODING);
    if encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        // With its body: whoever sends half of it is not waited for.
        let answered = tokio::time::timeout(ANSWERED, next.call(request)).await;
        let late = |_| Err(actix_web::error::ErrorRequestTimeout("The request was not whole within 30 s.\n"));
        return answered.unwrap_or_else(late).map(ServiceResponse::map_into_boxed_body);
    }
    let fault = Fault::new(ErrorCode::Malformed, "Send the body as it is, without a content encoding.");
    let answer = HttpResponse::UnsupportedMediaType().insert_header((header::ACCEPT_ENCODING, "identity")).json(fault);
    Ok(request.into_response(answer))
}

/// The routes of the API.
fn routes() -> scope::Scope<
    impl ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse, Error = actix_web::Error, InitError = ()>,
> {
    scope::scope("/api/v1")
        .service(identity::sign_in_with_link)
        .service(identity::sign_in_with_code)
        .service(identity::sign_out)
        .service(identity::me)
        .service(identity::change_me)
        .service(conversation::get_home)
        .service(conversation::open_room)
        .service(conversation::get_messages)
        .service(conversation::get_reach)
}

/// The JSON Schema of every frame.
async fn schema() -> HttpResponse {
    HttpResponse::Ok().json(homeroom_protocol::schema())
}

/// Whether this node should be sent clients.
async fn ready(api: web::Data<Api>) -> HttpResponse {
    let mut reasons: Vec<&str> = Vec::new();
    if api.node.draining.load(Ordering::Acquire) {
        reasons.push("draining");
    }
    let asked = async { fetch_optional!(api.db().reads(), (i64,), "SELECT min_compatible_version FROM compatibility") };
    if !matches!(tokio::time::timeout(Duration::from_secs(1), asked).await, Ok(Ok(_))) {
        reasons.push("the database does not answer");
    }
    if !api.node.tails.may_deliver() {
        reasons.push("the bell was not heard for 2 s");
    }
    // Only at the start: a wrong address is found out before anybody is sent here. A Redis that goes later costs time only.
    if !api.bus.reached.load(Ordering::Acquire) {
        reasons.push("Redis was not reached yet");
    }
    readiness(&reasons)
}

fn readiness(reasons: &[&str]) -> HttpResponse {
    let body = serde_json::json!({ "ready": reasons.is_empty(), "reasons": reasons });
    if reasons.is_empty() { HttpResponse::Ok().json(body) } else { HttpResponse::ServiceUnavailable().json(body) }
}

/// What is served while there is no node yet, because its database does not answer.
pub fn waiting() -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let busy = || async {
        let words = "This server waits for its database. Come back in a moment.\n";
        HttpResponse::ServiceUnavailable().insert_header((header::RETRY_AFTER, "1")).body(words)
    };
    App::new()
        .route("/health/live", web::get().to(live))
        .route("/health/ready", web::get().to(|| async { readiness(&["the database does not answer"]) }))
        .default_service(web::to(busy))
}

async fn live() -> HttpResponse {
    HttpResponse::Ok().body("live\n")
}

/// What no route has taken: a wrong method, a file of the web app, or its page: the app itself reads the path.
async fn page(request: HttpRequest, methods: web::Data<document::Methods>) -> HttpResponse {
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    if let Some(methods) = methods.of_path(request.path()) {
        return wrong_method(methods);
    }
    let path = request.path().trim_start_matches('/');
    if path.starts_with("api/") {
        return HttpFault::missing("route").error_response();
    }
    if path == "ws" && reads {
        return HttpResponse::UpgradeRequired()
            .insert_header((header::UPGRADE, "websocket"))
            .body("This is a WebSocket (RFC 6455, subprotocol homeroom.v1); docs/protocol.md says how to speak it.\n");
    }
    if !reads {
        return wrong_method(if path == "ws" { "GET" } else { "GET, HEAD" });
    }
    if let Some(file) = Dist::get(path).filter(|_| !path.is_empty()) {
        let kind = mime_guess::from_path(path).first_or_octet_stream();
        // Names of built assets hold a hash of what is in them.
        let keep = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
        return embedded(&request, file, kind.as_ref(), keep);
    }
    if path.contains('.') {
        return HttpResponse::NotFound().body("There is no such file.\n");
    }
    match Dist::get("index.html") {
        Some(page) => embedded(&request, page, "text/html; charset=utf-8", "no-cache"),
        None => HttpResponse::NotFound()
            .body("This homeroom was built without its web app. Run `make web`, then build again.\n"),
    }
}

/// Another method would do.
fn wrong_method(allowed: &str) -> HttpResponse {
    let fault = Fault::new(ErrorCode::NotFound, format!("This path has other methods: {allowed}."));
    HttpResponse::MethodNotAllowed().insert_header((header::ALLOW, allowed)).json(fault)
}

/// A file of the web app; nothing but its tag where the browser has it already.
fn embedded(request: &HttpRequest, file: EmbeddedFile, kind: &str, keep: &str) -> HttpResponse {
    let [a, b, c, d, e, f, g, h, ..] = file.metadata.sha256_hash();
    let tag = EntityTag::new_weak(format!("{:016x}", u64::from_be_bytes([a, b, c, d, e, f, g, h])));
    let known = match request.get_header::<IfNoneMatch>() {
        Some(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        Some(IfNoneMatch::Any) => true,
        None => false,
    };
    let mut answer = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer.insert_header((header::CACHE_CONTROL, keep)).insert_header(ETag(tag));
    if known { answer.finish() } else { answer.content_type(kind).body(file.data.into_owned()) }
}
