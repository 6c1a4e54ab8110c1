//! Following a deployment until nothing of it is left.

use super::{Pauses, Progress, Trouble};
use crate::client::document::Document;
use crate::client::model::{Deployment, Only};
use crate::client::{Client, ClientError, SocketEvent};
use crate::exit::Failure;
use serde_json::json;
use shared::status::ApplicationStatus;
use std::time::Duration;
use tokio::time::timeout;

/// Waits until the deployment is DESTROYED; whether it was before `time_limit` had passed.
pub(crate) async fn until_removed(
    client: &Client,
    deployment_id: &str,
    progress: &Progress,
    time_limit: Duration,
) -> Result<bool, Failure> {
    let removal = async {
        let mut pauses = Pauses::new();
        loop {
            match attempt(client, deployment_id).await {
                Err(Trouble::Client(error)) if error.is_transient() => {
                    progress.note(&format!("{error}; connecting again"));
                    pauses.wait().await;
                }
                Err(Trouble::Client(error)) => return Err(error.into()),
                Err(Trouble::Output(error)) => return Err(error.into()),
                Ok(()) => return Ok(()),
            }
        }
    };
    match timeout(time_limit, removal).await {
        Ok(removed) => removed.map(|()| true),
        Err(_) => Ok(false),
    }
}

/// Listens first and then looks, so that the end cannot fall between the two.
async fn attempt(client: &Client, deployment_id: &str) -> Result<(), Trouble> {
    let mut socket = client.socket().await?;
    socket
        .subscribe(Document::Statuses, json!({ "id": deployment_id }))
        .await?;
    while !is_removed(client, deployment_id).await? {
        // What happened before comes first; whatever it says, it is time to look again.
        if let SocketEvent::Complete { .. } = socket.next().await? {
            return Err(Trouble::Client(ClientError::Lost {
                url: client.address(),
                reason: "the server ended the subscription".to_owned(),
            }));
        }
    }
    Ok(())
}

async fn is_removed(client: &Client, deployment_id: &str) -> Result<bool, ClientError> {
    match client
        .ask::<Only<Deployment>>(Document::DeploymentById, json!({ "id": deployment_id }))
        .await
    {
        Ok(deployment) => Ok(deployment.0.status == ApplicationStatus::Destroyed),
        Err(error) if error.is_not_found() => Ok(true),
        Err(error) => Err(error),
    }
}
