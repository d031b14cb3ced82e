//! The OpenAPI document: what the routes say of themselves, and what is true of all of them.
//!
//! Owns: how one signs in, the answers that any route may give, the paths of health, and which methods a path has.
//! Refuses to know: what the routes do.

use crate::identity::cookie;
use actix_web::dev::ResourceDef;
use serde_json::{Value, json};
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(info(
    title = "Homeroom",
    description = "What stands beside the live events of `/ws`: signing in, rooms, history, reach. Sign in with a cookie or \
                   `Authorization: Bearer TOKEN`. Every fault has the same body."
))]
pub(super) struct Document;

/// The document of these routes, completed, as this server is reached.
pub(super) fn complete(document: &utoipa::openapi::OpenApi, is_encrypted: bool) -> Value {
    let mut document = serde_json::to_value(document).unwrap_or_default();
    document["components"]["securitySchemes"] = json!({
        "cookie": { "type": "apiKey", "in": "cookie", "name": cookie::name(is_encrypted),
                    "description": "What browsers have after signing in. A request that changes something must come from Homeroom's own page." },
        "bearer": { "type": "http", "scheme": "bearer",
                    "description": "What signing in gives to whoever asks for a token (`keep: token`)." },
    });
    document["security"] = json!([{ "cookie": [] }, { "bearer": [] }]);
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, operations) in paths {
        for (_, operation) in operations.as_object_mut().into_iter().flatten() {
            if path.contains("/sign-in/") {
                operation["security"] = json!([]);
            }
            let takes_something = operation.get("requestBody").is_some() || operation.get("parameters").is_some();
            let faults = [
                ("400", "The address or the body can't be read.", takes_something),
                ("503", "The database does not answer. Try again after the time in `retry_after_ms`.", true),
            ];
            for (status, why, _) in faults.iter().filter(|(_, _, may_be)| *may_be) {
                operation["responses"][status] = json!({
                    "description": why,
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Fault" } } },
                });
            }
        }
    }
    let health = |summary: &str, red: Value| json!({ "get": { "tags": ["health"], "summary": summary, "security": [], "responses": red } });
    document["paths"]["/health/live"] =
        health("Whether the process answers.", json!({ "200": { "description": "It does." } }));
    document["paths"]["/health/ready"] = health(
        "Whether this node should be sent clients.",
        json!({ "200": { "description": "It should." }, "503": { "description": "It should not; the body says why." } }),
    );
    document
}

/// The methods of each documented path.
#[derive(Clone)]
pub(super) struct Methods(Vec<(ResourceDef, String)>);

impl Methods {
    pub(super) fn of(document: &Value) -> Self {
        let paths = document["paths"].as_object().into_iter().flatten();
        let methods = paths.map(|(path, operations)| {
            let methods: Vec<String> =
                operations.as_object().into_iter().flatten().map(|(method, _)| method.to_uppercase()).collect();
            (ResourceDef::new(path.as_str()), methods.join(", "))
        });
        Self(methods.collect())
    }

    /// As the header `Allow` says them; nothing where there is no such path.
    pub(super) fn of_path(&self, path: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known.is_match(path)).map(|(_, methods)| methods.as_str())
    }
}
