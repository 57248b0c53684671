//! What every operation of the document has in common, by the place where it is carried out: headers that it takes and
//! answers, and the statuses of its errors. Routes say only what is their own.

use utoipa::openapi::{
    Components, ContentBuilder, HeaderBuilder, ObjectBuilder, OpenApi, Ref, RefOr, Required, Response,
    ResponseBuilder, Schema, Type,
    path::{Operation, ParameterBuilder, ParameterIn, PathItem},
};

use crate::{
    keys,
    problem::{Kind, PROBLEM},
    routing::Place,
};

/// The header of a change of one row.
const IF_MATCH: &str = "If-Match";

/// A header by its name, with what it means and what its value is.
type Fact = (&'static str, &'static str, fn() -> ObjectBuilder);

/// Values that are good in any request. A key is not among them, because the next request with it would be another.
const EXAMPLES: [(&str, &str); 3] = [("Prefer", "wait=5"), ("After", "0."), ("Consistency", "any")];

/// Headers of requests.
const ASKED: [Fact; 7] = [
    (
        "X-Request-Id",
        "A name for the request in logs and audit records; one is made where there is none.",
        text,
    ),
    (
        "Traceparent",
        "The trace that the request belongs to, as W3C Trace Context has it; its id stands in logs and audit records.",
        text,
    ),
    (
        "Prefer",
        "`wait=10`: how many seconds to wait for a master, 2 where nothing is said and 10 at most. `routing=redirect`: \
         answer 307 with the master's address instead of forwarding. What is not known is ignored.",
        text,
    ),
    (
        "Idempotency-Key",
        "Makes a change happen once: the same request with the same key gets the stored reply.",
        || {
            text()
                .min_length(Some(1))
                .max_length(Some(keys::LONGEST))
                .pattern(Some("^[\\t -~]*$"))
        },
    ),
    (
        "After",
        "A `Write-Token`: at least the state that it names is read; `0.` names the empty one.",
        || text().pattern(Some(r"^\s*[0-9]+\.")),
    ),
    (
        "Consistency",
        "`leader` (or `strong`) reads on the master, `bounded=250ms` what is at most so old; `any` and `session` on any \
         node.",
        || text().pattern(Some(r"^\s*(any|session|leader|strong|bounded=[0-9]+m?s)\s*$")),
    ),
    (
        IF_MATCH,
        "An `ETag`: the row is changed only where it is still the one that was read.",
        text,
    ),
];

/// Headers of replies.
const ANSWERED: [Fact; 12] = [
    (
        "X-Request-Id",
        "The request's name in logs and audit records.",
        text,
    ),
    ("Served-By", "The node that carried it out.", text),
    ("Served-Role", "What that node does.", || {
        text().enum_values(Some(["master", "slave", "none"]))
    }),
    ("RateLimit", "What is left of what the token may ask.", text),
    ("RateLimit-Policy", "What the token may ask.", text),
    (
        "Data-Age",
        "How many milliseconds old at most the data was, where a bound was asked for.",
        number,
    ),
    (
        "Write-Token",
        "A state that contains the change, for `After`.",
        text,
    ),
    (
        "Idempotency-Replayed",
        "The reply is the stored one of an earlier request with the same key.",
        || text().enum_values(Some(["true"])),
    ),
    ("ETag", "What the row is known again by, for `If-Match`.", text),
    ("Location", "Where to go on.", text),
    ("Retry-After", "Seconds after which the same may succeed.", number),
    ("WWW-Authenticate", "How to show a token.", text),
];

/// Of every reply.
const ALWAYS: [&str; 5] = [
    "X-Request-Id",
    "Served-By",
    "Served-Role",
    "RateLimit",
    "RateLimit-Policy",
];

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn number() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0))
}

/// Errors that any request may meet.
const ANY: [Kind; 7] = [
    Kind::BadRequest,
    Kind::Unauthorized,
    Kind::Forbidden,
    Kind::TooLarge,
    Kind::TooManyRequests,
    Kind::Internal,
    Kind::Busy,
];
/// What reaches MySQL may meet these, too.
const MYSQL: [Kind; 4] = [Kind::NotFound, Kind::Conflict, Kind::BadValue, Kind::Timeout];

impl Place {
    fn errors(self) -> Vec<Kind> {
        let more: &[Kind] = match self {
            Self::Watch => &[Kind::NotFound],
            Self::Steer => &[Kind::NotFound, Kind::Conflict],
            Self::Follow => &[Kind::NotFound, Kind::Conflict, Kind::PositionPurged],
            Self::Here | Self::Any | Self::Master | Self::Import | Self::ByBody(_) => &MYSQL,
        };
        ANY.iter().chain(more).copied().collect()
    }

    /// A node that may not carry it out leads to the master.
    const fn is_routed(self) -> bool {
        !matches!(self, Self::Here | Self::Watch | Self::Steer)
    }

    const fn may_read(self) -> bool {
        matches!(self, Self::Any | Self::ByBody(_))
    }

    const fn may_change(self) -> bool {
        matches!(self, Self::Master | Self::Import | Self::ByBody(_))
    }
}

/// Completes the operations of one place.
pub fn complete(document: &mut OpenApi, place: Place) {
    for (path, item) in &mut document.paths.paths {
        let is_row = path.ends_with("/{key}");
        for operation in operations(item) {
            asked(operation, place);
            answered(operation, place);
            errors(operation, &place.errors());
            role(operation);
            if is_row && place.may_change() {
                ask(operation, IF_MATCH);
                refer(operation, &code(Kind::PreconditionFailed));
            }
            if is_row && let Some(RefOr::T(good)) = operation.responses.responses.get_mut("200") {
                add(good, "ETag");
            }
        }
    }
}

/// Completes the operations that need no token: nodes' own.
pub fn complete_between_nodes(document: &mut OpenApi) {
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        errors(operation, &[Kind::Forbidden, Kind::Internal, Kind::Busy]);
    }
}

/// Defines what the operations refer to.
pub fn define(components: &mut Components) {
    for (name, meaning, schema) in ASKED {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(meaning))
            .schema(Some(Schema::from(schema())))
            .example(
                EXAMPLES
                    .iter()
                    .find(|(of, _)| *of == name)
                    .map(|(_, value)| (*value).into()),
            )
            .build();
        components.parameters.insert(name.to_owned(), RefOr::T(parameter));
    }
    for (name, meaning, schema) in ANSWERED {
        let header = HeaderBuilder::new()
            .schema(Some(Schema::from(schema())))
            .description(Some(meaning))
            .build();
        components.headers.insert(name.to_owned(), RefOr::T(header));
    }
    for kind in ANY
        .into_iter()
        .chain(MYSQL)
        .chain([Kind::PreconditionFailed, Kind::PositionPurged])
    {
        let mut response = ResponseBuilder::new()
            .description(meaning(kind))
            .content(
                PROBLEM,
                ContentBuilder::new()
                    .schema(Some(Ref::from_schema_name("Problem")))
                    .build(),
            )
            .build();
        for name in ALWAYS {
            add(&mut response, name);
        }
        match kind {
            Kind::Unauthorized => add(&mut response, "WWW-Authenticate"),
            Kind::Busy | Kind::TooManyRequests => add(&mut response, "Retry-After"),
            _ => {}
        }
        components.responses.insert(code(kind), RefOr::T(response));
    }
    let mut redirect = ResponseBuilder::new()
        .description("With `Prefer: routing=redirect`: the master's address")
        .build();
    for name in ALWAYS.into_iter().chain(["Location"]) {
        add(&mut redirect, name);
    }
    components.responses.insert("307".to_owned(), RefOr::T(redirect));
}

/// What a status stands for, in all the kinds that it has.
fn meaning(kind: Kind) -> &'static str {
    match kind {
        Kind::BadRequest => "The request or a fragment of MySQL in it cannot be understood",
        Kind::Conflict => "What is there contradicts the request",
        Kind::Busy => {
            "The node, its server or the database takes no requests at the moment, or the outcome is not known"
        }
        Kind::BadValue => "MySQL refuses a value, or the key was used for another request",
        other => other.title(),
    }
}

fn code(kind: Kind) -> String {
    kind.status().as_u16().to_string()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.post,
        &mut item.put,
        &mut item.patch,
        &mut item.delete,
    ]
    .into_iter()
    .flatten()
}

fn asked(operation: &mut Operation, place: Place) {
    let mut names = vec!["X-Request-Id", "Traceparent"];
    if place.is_routed() {
        names.push("Prefer");
    }
    if place.may_change() {
        names.push("Idempotency-Key");
    }
    if place.may_read() {
        names.extend(["After", "Consistency"]);
    }
    for name in names {
        ask(operation, name);
    }
}

fn ask(operation: &mut Operation, name: &str) {
    let reference = Ref::new(format!("#/components/parameters/{name}"));
    operation
        .parameters
        .get_or_insert_default()
        .push(RefOr::Ref(reference));
}

/// A route that says nothing of the role that it needs is for every one.
fn role(operation: &mut Operation) {
    let extensions = operation.extensions.get_or_insert_default();
    extensions
        .entry("x-role".to_owned())
        .or_insert_with(|| "reader".into());
}

fn answered(operation: &mut Operation, place: Place) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if !status.starts_with('2') {
            continue;
        }
        for name in ALWAYS {
            add(response, name);
        }
        if place.may_read() {
            add(response, "Data-Age");
        }
        if place.may_change() {
            add(response, "Write-Token");
            add(response, "Idempotency-Replayed");
        }
        if status == "202" {
            add(response, "Location");
        }
    }
    if place.is_routed() {
        refer(operation, "307");
    }
}

/// The statuses in place of the two that stand for all.
fn errors(operation: &mut Operation, kinds: &[Kind]) {
    for all in ["4XX", "5XX"] {
        operation.responses.responses.remove(all);
    }
    for kind in kinds {
        refer(operation, &code(*kind));
    }
}

fn refer(operation: &mut Operation, status: &str) {
    let reference = Ref::new(format!("#/components/responses/{status}"));
    operation
        .responses
        .responses
        .insert(status.to_owned(), RefOr::Ref(reference));
}

fn add(response: &mut Response, name: &str) {
    let reference = Ref::new(format!("#/components/headers/{name}"));
    response.headers.insert(name.to_owned(), RefOr::Ref(reference));
}
