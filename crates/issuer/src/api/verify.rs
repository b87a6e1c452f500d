//! The operator has the issuer verify its own books, while it runs.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use warifu_proto::problem::{Problem, ProblemCode};
use warifu_server::edge::Caller;
use warifu_server::problem::{ApiProblem, ApiResult};

use crate::app::App;
use crate::verify::{Report, verify};

/// Makes everything again from the journal and compares. It takes as long as it takes: some seconds for each million
/// entries. One at a time.
#[utoipa::path(post, path = "/admin/v1/verify", tag = "operator", responses(
    (status = 200, description = "what was checked, and what differs"), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 409, description = "conflict: one is under way", body = Problem), (status = 421, body = Problem)))]
pub(crate) async fn run(State(app): State<Arc<App>>, caller: Caller) -> ApiResult<Json<Report>> {
    app.check_operator(&caller)?;
    let Ok(one_at_a_time) = Arc::clone(&app.verifying).try_lock_owned() else {
        let detail = "a verification is under way: wait for its end";
        return Err(ApiProblem::new(ProblemCode::Conflict, detail));
    };
    let verify = move || {
        let _held = one_at_a_time;
        verify(&app.data, app.prefix(), &app.engine.vault(), &mut |_| ())
    };
    let report = tokio::task::spawn_blocking(verify).await.map_err(ApiProblem::internal)?;
    report.map(Json).map_err(ApiProblem::internal)
}
