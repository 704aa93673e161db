//! Webhooks, and messages to them.

use quern_types::{DeliveryId, Name};

use super::operation::Operation;
use crate::{
    errors::Code,
    webhooks::{
        DeliveryFilter, DeliveryList, DeliveryView, NewSecret, RotateRequest, WebhookList,
        WebhookRequest, WebhookView,
    },
};

const WEBHOOK: &str = "/v1/webhooks/{name}";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/v1/webhooks", "listWebhooks", "The webhooks")
            .replies::<WebhookList>(200, "By name."),
        webhook(Operation::get(WEBHOOK, "showWebhook", "A webhook"))
            .replies::<WebhookView>(200, "Where its messages go; never its secret.")
            .fails(&[Code::NotFound]),
        webhook(Operation::put(WEBHOOK, "putWebhook", "Makes a webhook, or moves it"))
            .takes::<WebhookRequest>()
            .replies::<NewSecret>(201, "It is new, and this is its secret.")
            .replies::<WebhookView>(200, "It was there, and has this address now.")
            .fails(&[Code::InvalidRequest, Code::TooManyWebhooks, Code::SecretsLocked]),
        webhook(Operation::delete(WEBHOOK, "deleteWebhook", "Deletes a webhook"))
            .replies_nothing(204, "Nothing more is sent to it.")
            .fails(&[Code::NotFound]),
        webhook(Operation::post(
            "/v1/webhooks/{name}/rotate",
            "rotateWebhook",
            "Gives a webhook another secret",
        ))
        .may_take::<RotateRequest>()
        .replies::<NewSecret>(200, "This is its secret now.")
        .fails(&[Code::NotFound, Code::InvalidRequest, Code::SecretsLocked]),
        Operation::get("/v1/deliveries", "listDeliveries", "The messages to webhooks")
            .query::<DeliveryFilter>()
            .replies::<DeliveryList>(200, "The newest first."),
        delivery(Operation::get("/v1/deliveries/{id}", "showDelivery", "A message to a webhook"))
            .replies::<DeliveryView>(200, "Where it is on its way."),
        delivery(Operation::post(
            "/v1/deliveries/{id}/retry",
            "retryDelivery",
            "Has a message sent again that was given up",
        ))
        .replies::<DeliveryView>(202, "It waits, as if it were new.")
        .fails(&[Code::WrongState, Code::Busy]),
    ]
}

fn webhook(operation: Operation) -> Operation {
    operation.at::<Name>("name", "shop", "The name of the webhook.")
}

fn delivery(operation: Operation) -> Operation {
    let sample = "01936a5e-0000-7000-8000-0123456789ab";
    operation.at::<DeliveryId>("id", sample, "The id of the message.").fails(&[Code::NotFound])
}
