//! `embed`, `embed_query`, `token_count`.

use pgrx::prelude::*;
use vector_embed_protocol::Purpose;

use crate::client;
use crate::client::vectors::{self, Wanted};
use crate::error::{Error, OrRaise, Place};
use crate::pg::settings::Model;
use crate::pg::text::Text;
use crate::pg::vector::{TextArray, Vector, VectorArray};

#[pg_extern(sql = false)]
fn embed(text: Text<'_>) -> Vector {
    one(&text, Model::Default, Purpose::Document).or_raise()
}

#[pg_extern(sql = false)]
fn embed_with_model(text: Text<'_>, model: Text<'_>) -> Vector {
    one(&text, Model::Named(model.as_str()), Purpose::Document).or_raise()
}

#[pg_extern(sql = false)]
fn embed_query(text: Text<'_>) -> Vector {
    one(&text, Model::Default, Purpose::Query).or_raise()
}

#[pg_extern(sql = false)]
fn embed_query_with_model(text: Text<'_>, model: Text<'_>) -> Vector {
    one(&text, Model::Named(model.as_str()), Purpose::Query).or_raise()
}

#[pg_extern(sql = false)]
fn embed_array(texts: TextArray<'_>) -> VectorArray {
    many(texts, Model::Default).or_raise()
}

#[pg_extern(sql = false)]
fn embed_array_with_model(texts: TextArray<'_>, model: Text<'_>) -> VectorArray {
    many(texts, Model::Named(model.as_str())).or_raise()
}

#[pg_extern(sql = false)]
fn token_count(text: Text<'_>) -> i32 {
    count(&text, Model::Default).or_raise()
}

#[pg_extern(sql = false)]
fn token_count_with_model(text: Text<'_>, model: Text<'_>) -> i32 {
    count(&text, Model::Named(model.as_str())).or_raise()
}

fn one(text: &Text<'_>, model: Model<'_>, purpose: Purpose) -> Result<Vector, Error> {
    let mut vector = None;
    let texts = std::slice::from_ref(text);
    send(texts, model, purpose, &mut |_, numbers| vector = Some(Vector::from_le_bytes(numbers)))
        .map_err(Error::without_place)?;
    vector.ok_or_else(|| Error::Protocol("an answer without a vector".to_owned()))
}

fn many(texts: TextArray<'_>, model: Model<'_>) -> Result<VectorArray, Error> {
    // NULL elements are not sent; `places` leads from a text that is back to its element.
    let (places, present): (Vec<usize>, Vec<&Text<'_>>) =
        texts.elements().iter().enumerate().filter_map(|(place, text)| Some((place, text.as_ref()?))).unzip();
    let mut vectors = vec![None; texts.elements().len()];
    if !present.is_empty() {
        send(&present, model, Purpose::Document, &mut |position, numbers| {
            vectors[places[position]] = Some(Vector::from_le_bytes(numbers));
        })
        .map_err(|error| match places.len() {
            1 => error.without_place(),
            _ => error.map_place(|position| Place::Element(places[position])),
        })?;
    }
    Ok(VectorArray::like(texts, vectors))
}

fn send(
    texts: &[impl AsRef<str>],
    model: Model<'_>,
    purpose: Purpose,
    sink: &mut dyn FnMut(usize, &[u8]),
) -> Result<(), Error> {
    vectors::embed(texts, &Wanted { model: &model.name()?, purpose, expected_hash: None }, sink)
}

fn count(text: &Text<'_>, model: Model<'_>) -> Result<i32, Error> {
    Ok(client::token_count(&model.name()?, text.as_str())? as i32)
}
