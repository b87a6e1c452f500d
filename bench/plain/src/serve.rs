//! The HTTP side: one route, a pool of connections to the database.

use anyhow::Context as _;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use clap::Args;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_postgres::NoTls;

use crate::pay::{PayRequest, Refused, pay};

/// Header that names the merchant. Nobody checks it: requests are unsigned.
pub(crate) const MERCHANT: &str = "x-merchant";

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// As of `prepare`
    #[arg(long)]
    database: String,
    /// Connections to the database
    #[arg(long, default_value_t = 32)]
    pool: usize,
    /// Where to listen; its port is printed as JSON
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
}

pub(crate) async fn run(args: &Serve) -> anyhow::Result<()> {
    // A connection that broke is noticed by the payment that uses it, without a query before each.
    let recycle = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(args.database.parse()?, NoTls, recycle);
    let pool = Pool::builder(manager).max_size(args.pool).build()?;
    drop(pool.get().await.context("no database")?);
    let listener = TcpListener::bind(&args.listen).await?;
    println!("{}", json!({ "listening": listener.local_addr()?.to_string() }));
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let app = Router::new().route("/v1/payments", post(payments)).with_state(pool);
    Ok(axum::serve(listener, app).await?)
}

async fn payments(
    State(pool): State<Pool>,
    headers: HeaderMap,
    Json(wish): Json<PayRequest>,
) -> Response {
    let merchant = headers.get(MERCHANT).and_then(|it| it.to_str().ok()?.parse().ok());
    let Some(merchant) = merchant else {
        return told(StatusCode::UNAUTHORIZED, "merchant_unknown");
    };
    if wish.amount.minor <= 0 {
        return told(StatusCode::BAD_REQUEST, "amount_malformed");
    }
    let mut client = match pool.get().await {
        Ok(client) => client,
        Err(error) => return told(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    };
    match pay(&mut client, merchant, &wish).await {
        Ok(payment) => Json(payment).into_response(),
        Err(Refused::Conflict) => told(StatusCode::CONFLICT, "request_id_conflict"),
        Err(Refused::Broken(why)) => told(StatusCode::INTERNAL_SERVER_ERROR, &why),
    }
}

fn told(status: StatusCode, code: &str) -> Response {
    (status, Json(json!({ "code": code }))).into_response()
}
