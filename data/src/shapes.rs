//! Schemas of what a request may give in several forms, for the document.

use serde_json::json;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ArrayBuilder, ObjectBuilder, OneOfBuilder, Ref, RefOr, Schema, Type, schema::AdditionalProperties,
    },
};

use crate::sql::Name;

/// One row, or several.
pub struct Rows;

impl PartialSchema for Rows {
    fn schema() -> RefOr<Schema> {
        let row = || ObjectBuilder::new().schema_type(Type::Object);
        OneOfBuilder::new()
            .item(row())
            .item(ArrayBuilder::new().items(row()).min_items(Some(1)))
            .description(Some(
                "One object of columns with their values, or a list of such objects.",
            ))
            .examples([json!({"name": "John Doe", "email": "john@example.com", "age": 30})])
            .into()
    }
}

impl ToSchema for Rows {}

/// The columns of a new table.
pub struct Columns;

impl PartialSchema for Columns {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let column = ObjectBuilder::new()
            .property("name", Ref::from_schema_name("Name"))
            .property("type", text())
            .required("name")
            .required("type")
            .additional_properties(Some(AdditionalProperties::FreeForm(false)));
        let by_name = ObjectBuilder::new()
            .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(text().into()))));
        OneOfBuilder::new()
            .item(ArrayBuilder::new().items(column).min_items(Some(1)))
            .item(by_name.min_properties(Some(1)))
            .description(Some(
                "`[{\"name\":\"age\",\"type\":\"int\"}]` or `{\"age\":\"int\"}`. Plain types are string, int, float, bool, date, \
                 datetime and json; MySQL's are taken too.",
            ))
            .examples([json!({"name": "string", "age": "int"})])
            .into()
    }
}

impl ToSchema for Columns {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("Name".to_owned(), Name::schema()));
    }
}
