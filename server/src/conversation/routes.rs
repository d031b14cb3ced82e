//! The routes of conversations: extract, call, respond.
//!
//! Owns: paths and parameters. Refuses to know: SQL, and how an asker was signed in.
//! What somebody may not see is answered like what does not exist.

use super::{reach, snapshot};
use crate::error::HttpFault;
use crate::identity::routes::Viewer;
use crate::log::{Place, read};
use crate::web::Api;
use actix_web::{HttpRequest, HttpResponse, get, web};
use homeroom_protocol::{
    About, Address, ConversationId, EventId, Fault, HistoryPage, Home, Limits, Reach, RoomDetail, RoomId, You,
};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

/// The first screen: the rooms of the signed-in person with what is new in them.
#[utoipa::path(tag = "conversation", responses((status = 200, body = Home), (status = 401, body = Fault)))]
#[get("/home")]
pub async fn get_home(api: web::Data<Api>, request: HttpRequest, viewer: Viewer) -> Result<HttpResponse, HttpFault> {
    let rooms = snapshot::rooms(api.db(), viewer.0.person).await?;
    let you = You { person: viewer.0.person, name: viewer.0.name, language: viewer.0.language };
    let mut response = HttpResponse::Ok();
    // Every visit begins here.
    for cookie in api.renewed_cookie(&request) {
        response.cookie(cookie);
    }
    Ok(response.json(Home { you, rooms }))
}

/// A room, opened: its conversations and people.
#[utoipa::path(tag = "conversation", params(("room" = Uuid, Path)),
    responses((status = 200, body = RoomDetail), (status = 401, body = Fault), (status = 404, body = Fault)))]
#[get("/rooms/{room}")]
pub async fn open_room(
    api: web::Data<Api>,
    viewer: Viewer,
    path: web::Path<Uuid>,
) -> Result<web::Json<RoomDetail>, HttpFault> {
    let place = member(&api, &viewer, RoomId(*path)).await?;
    Ok(web::Json(snapshot::room(api.db(), viewer.0.person, &place).await?))
}

/// Which page of messages.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Only messages whose `n` is smaller; the newest when left out.
    before: Option<u64>,
    /// How many at most: 1 to 100.
    limit: Option<u32>,
}

/// A page of a conversation's messages as they stand now, newest first.
#[utoipa::path(tag = "conversation", params(("room" = Uuid, Path), ("conversation" = Uuid, Path), PageQuery),
    responses((status = 200, body = HistoryPage), (status = 401, body = Fault), (status = 404, body = Fault)))]
#[get("/rooms/{room}/conversations/{conversation}/messages")]
pub async fn get_messages(
    api: web::Data<Api>,
    viewer: Viewer,
    path: web::Path<(Uuid, Uuid)>,
    query: web::Query<PageQuery>,
) -> Result<web::Json<HistoryPage>, HttpFault> {
    let (room, conversation) = path.into_inner();
    let (room, conversation) = (RoomId(room), ConversationId(conversation));
    let place = member(&api, &viewer, room).await?;
    if !is_in(&viewer, &place, conversation) {
        return Err(HttpFault::missing("conversation"));
    }
    let most = Limits::CURRENT.history_page;
    let limit = query.limit.unwrap_or(most).clamp(1, most);
    Ok(web::Json(read::history(api.db(), room, &place.view, conversation, query.before, limit).await?))
}

/// Whom an announcement has reached, by name. Staff only.
#[utoipa::path(tag = "conversation", params(("room" = Uuid, Path), ("message" = Uuid, Path)),
    responses((status = 200, body = Reach), (status = 401, body = Fault), (status = 404, body = Fault)))]
#[get("/rooms/{room}/messages/{message}/reach")]
pub async fn get_reach(
    api: web::Data<Api>,
    viewer: Viewer,
    path: web::Path<(Uuid, Uuid)>,
) -> Result<web::Json<Reach>, HttpFault> {
    let (room, message) = path.into_inner();
    let place = member(&api, &viewer, RoomId(room)).await?;
    let report = reach::reach(api.db(), &place, EventId(message)).await?;
    report.map(web::Json).ok_or_else(|| HttpFault::missing("announcement"))
}

/// The asker's place in the room: the proof that everything else here asks for.
async fn member(api: &Api, viewer: &Viewer, room: RoomId) -> Result<Place, HttpFault> {
    snapshot::place(api.db(), viewer.0.person, room).await?.ok_or_else(|| HttpFault::missing("room"))
}

fn is_in(viewer: &Viewer, place: &Place, conversation: ConversationId) -> bool {
    let guardian = viewer.0.person;
    place.view.is_staff()
        || Address::Announcements.conversation(place.room) == conversation
        || place
            .view
            .students()
            .any(|student| Address::Private(About { guardian, student }).conversation(place.room) == conversation)
}
