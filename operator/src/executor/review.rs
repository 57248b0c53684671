//! Whom a token of a Kubernetes service account stands for: asked of the API server (`TokenReview`), on behalf of a node,
//! which has no rights there. The token must be made for this database's own audience, so that it opens nothing else.

use api::resource::ApiServiceAccount;
use api::wire::Answer;
use api::{DistributedDatabase, names};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use tokio::time::timeout;

use super::API_DEADLINE;

/// What service accounts' names begin with.
const PREFIX: &str = "system:serviceaccount:";

/// Asks, and says what the resource lets the account do.
pub async fn carry_out(client: Client, object: &DistributedDatabase, token: String) -> Answer {
    let namespace = object.namespace().unwrap_or_default();
    let audience = names::api_audience(&object.name_any(), &namespace);
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: Some(token),
            audiences: Some(vec![audience.clone()]),
        },
        ..TokenReview::default()
    };
    let api = Api::<TokenReview>::all(client);
    match timeout(API_DEADLINE, api.create(&PostParams::default(), &review)).await {
        Ok(Ok(TokenReview {
            status: Some(status), ..
        })) => judge(&status, &audience, &namespace, &object.spec.api.service_accounts),
        Ok(Ok(_)) => not_now("the API server reviewed nothing"),
        Ok(Err(kube::Error::Api(refused))) if refused.code == 403 => {
            not_now("the operator may not review tokens; its chart grants it with reviewTokens: true")
        }
        Ok(Err(error)) => {
            tracing::warn!(error = %crate::lease::chain(&error), "a token could not be reviewed");
            not_now("the API server did not review the token")
        }
        Err(_) => not_now("the API server did not review the token in time"),
    }
}

fn not_now(message: &str) -> Answer {
    Answer::NotNow {
        message: message.to_owned(),
    }
}

fn judge(
    status: &TokenReviewStatus,
    audience: &str,
    namespace: &str,
    accounts: &[ApiServiceAccount],
) -> Answer {
    // A server that knows no audiences would name none, and the token could be one for anything.
    let for_us = status
        .audiences
        .as_ref()
        .is_some_and(|all| all.iter().any(|one| one == audience));
    if status.authenticated != Some(true) || !for_us {
        return Answer::Nobody;
    }
    let user = status.user.as_ref().and_then(|user| user.username.as_deref());
    let account = user
        .and_then(|user| user.strip_prefix(PREFIX))
        .and_then(|rest| rest.split_once(':'));
    let named = account.and_then(|(of, name)| {
        let mut all = accounts.iter();
        all.find(|one| one.name == name && one.namespace.as_deref().unwrap_or(namespace) == of)
            .map(|one| (format!("{of}/{name}"), one))
    });
    match named {
        None => Answer::Nobody,
        Some((account, named)) => Answer::Account {
            account,
            role: named.role.clone(),
            databases: named.databases.clone(),
        },
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    fn status(authenticated: bool, audience: &str, user: &str) -> TokenReviewStatus {
        TokenReviewStatus {
            authenticated: Some(authenticated),
            audiences: Some(vec![audience.to_owned()]),
            user: Some(UserInfo {
                username: Some(user.to_owned()),
                ..UserInfo::default()
            }),
            ..TokenReviewStatus::default()
        }
    }

    #[test]
    fn only_an_account_that_the_resource_names_with_a_token_for_this_database_is_somebody() {
        let account = |namespace: Option<&str>, name: &str, role: &str| ApiServiceAccount {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
            role: role.to_owned(),
            databases: None,
        };
        let accounts = [
            account(None, "web", "writer"),
            account(Some("other"), "web", "orders"),
        ];
        let audience = names::api_audience("shop", "ns");
        let of = |status: &TokenReviewStatus| judge(status, &audience, "ns", &accounts);
        let role = |answer: Answer| match answer {
            Answer::Account { role, .. } => Some(role),
            _ => None,
        };
        let user = "system:serviceaccount:ns:web";
        assert_eq!(
            role(of(&status(true, &audience, user))),
            Some("writer".to_owned())
        );
        let other = "system:serviceaccount:other:web";
        assert_eq!(
            role(of(&status(true, &audience, other))),
            Some("orders".to_owned())
        );
        for nobody in [
            status(false, &audience, user),
            status(true, "https://kubernetes.default.svc", user),
            status(true, &names::api_audience("shop", "other"), user),
            status(true, &audience, "system:serviceaccount:third:web"),
            status(true, &audience, "system:admin"),
            TokenReviewStatus {
                audiences: None,
                ..status(true, &audience, user)
            },
        ] {
            assert_eq!(of(&nobody), Answer::Nobody, "{nobody:?}");
        }
    }
}
