// node-postgres, with pgvector's types and pg-copy-streams.

import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { after, beforeEach, test } from 'node:test';
import pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import pgvector from 'pgvector/pg';

const SUPPLIED = [1, ...Array(383).fill(0)];
const OVERLONG = 'again and '.repeat(500);
const ENDLESS = 'INSERT INTO articles (body) SELECT body FROM many_long_texts';
const DISHES = ['Whisk the eggs, then fold in the flour.', 'Rice wants twice its water.', null, 'Salt it late.'];
const INSERT = 'INSERT INTO articles (body) VALUES ($1) RETURNING embedding';

const pool = new pg.Pool({ max: 4 });
pool.on('connect', (client) => pgvector.registerTypes(client));
after(() => pool.end());
beforeEach(() => pool.query('TRUNCATE articles, imports, misconfigured RESTART IDENTITY'));

async function value(statement, parameters, client = pool) {
  const { rows } = await client.query({ text: statement, values: parameters, rowMode: 'array' });
  return rows[0][0];
}

async function assertVectorOf(vector, text) {
  assert.ok(await value('SELECT is_vector_of($1, $2)', [pgvector.toSql(vector), text]), `not the vector of: ${text}`);
}

async function assertAllFresh(count, table = 'articles') {
  const { rows } = await pool.query(`SELECT count(*)::int, bool_and(t.fresh) AS fresh FROM ${table} t`);
  assert.deepEqual(rows, [{ count, fresh: true }]);
}

// With one client of the pool, which gets it back.
async function withClient(work) {
  const client = await pool.connect();
  try {
    return await work(client);
  } finally {
    client.release();
  }
}

test('insert returns the vector', async () => {
  await assertVectorOf(await value(INSERT, ['Bread needs time.']), 'Bread needs time.');
  await assertAllFresh(1);
});

test('a named statement goes on working', () => withClient(async (client) => {
  for (let number = 0; number < 12; number++) { // PostgreSQL may change to a generic plan after five
    const body = `Loaf number ${number}.`;
    const { rows } = await client.query({ name: 'insertion', text: INSERT, values: [body] });
    await assertVectorOf(rows[0].embedding, body);
  }
}));

test('update of the text returns the new vector', async () => {
  await pool.query("INSERT INTO articles (title, body) VALUES ('Bread', 'Needs time.')");
  const vector = await value('UPDATE articles SET title = $1 RETURNING embedding', ['Dough']);
  await assertVectorOf(vector, 'Dough\n\nNeeds time.');
});

test('all columns written back with the old vector give the new one', async () => {
  const { rows: [row] } = await pool.query("INSERT INTO articles (body) VALUES ('Old.') RETURNING *");
  const update = 'UPDATE articles SET title = $2, body = $3, embedding = $4 WHERE id = $1 RETURNING embedding';
  await assertVectorOf(await value(update, [row.id, row.title, 'New.', pgvector.toSql(row.embedding)]), 'New.');
});

test('a supplied vector is kept until it is set to null', async () => {
  const insert = "INSERT INTO articles (body, embedding) VALUES ('Text.', $1) RETURNING embedding";
  assert.deepEqual(await value(insert, [pgvector.toSql(SUPPLIED)]), SUPPLIED);
  const other = [...SUPPLIED].reverse();
  const update = "UPDATE articles SET body = 'Other text.', embedding = $1 RETURNING embedding";
  assert.deepEqual(await value(update, [pgvector.toSql(other)]), other);
  await assertVectorOf(await value(update, [null]), 'Other text.');
});

test('one insert of an array returns the vectors', async () => {
  const insert = 'INSERT INTO articles (body) SELECT unnest($1::text[]) RETURNING body, embedding';
  const { rows } = await pool.query(insert, [DISHES]);
  assert.deepEqual(rows.map((row) => row.body), DISHES);
  assert.equal(rows[2].embedding, null);
  await assertVectorOf(rows[3].embedding, DISHES[3]);
  await assertAllFresh(4);
});

test('copy', () => withClient(async (client) => {
  const lines = ['Soup\tSimmers.\t\\N\n', 'Stew\t\\N\t\\N\n', `\\N\tSupplied.\t${pgvector.toSql(SUPPLIED)}\n`];
  const copy = client.query(copyFrom('COPY articles (title, body, embedding) FROM STDIN'));
  await pipeline(Readable.from(lines), copy);
  assert.equal(copy.rowCount, 3);
  const { rows } = await pool.query('SELECT a.id FROM articles a WHERE NOT a.fresh');
  assert.deepEqual(rows, [{ id: '3' }], 'the third came with a vector');
}));

test('upsert', async () => {
  const upsert = `INSERT INTO articles (slug, body) VALUES ($1, $2)
    ON CONFLICT (slug) DO UPDATE SET body = EXCLUDED.body RETURNING embedding`;
  for (const body of ['Simmers.', 'Boils.']) await assertVectorOf(await value(upsert, ['soup', body]), body);
  await assertAllFresh(1);
});

test('a statement trigger embeds after returning', async () => {
  const insert = 'INSERT INTO imports (body) SELECT unnest($1::text[]) RETURNING embedding';
  const { rows } = await pool.query(insert, [DISHES]);
  assert.deepEqual(rows, DISHES.map(() => ({ embedding: null })));
  await assertAllFresh(4, 'imports');
  await pool.query("UPDATE imports SET body = 'Salt it early.' WHERE body = 'Salt it late.'");
  await assertAllFresh(4, 'imports');
});

test('many queries of a pool at once', async () => {
  const bodies = Array.from({ length: 40 }, (_, number) => `Loaf number ${number}.`);
  const results = await Promise.all(bodies.map((body) => pool.query(INSERT, [body])));
  await assertVectorOf(results[39].rows[0].embedding, bodies[39]);
  await assertAllFresh(40);
});

test('an error has its code and ends only the transaction', () => withClient(async (client) => {
  await client.query('BEGIN');
  await assert.rejects(client.query("INSERT INTO misconfigured (body) VALUES ('Text.')"), (error) => {
    assert.ok(error instanceof pg.DatabaseError);
    assert.equal(error.code, '42704');
    return error.message.includes('no-such-model');
  });
  await client.query('ROLLBACK');
  await assertVectorOf(await value(INSERT, ['Next.'], client), 'Next.');
}));

test('a savepoint outlives an error', () => withClient(async (client) => {
  await client.query('BEGIN');
  await client.query('SET LOCAL vector_embed.overlong_text = error');
  await client.query(INSERT, ['Before.']);
  await client.query('SAVEPOINT one_row');
  await assert.rejects(client.query(INSERT, [OVERLONG]), { code: '22001' });
  await client.query('ROLLBACK TO one_row');
  await client.query(INSERT, ['After.']);
  await client.query('COMMIT');
  await assertAllFresh(2);
}));

test('an error in copy leaves nothing behind', () => withClient(async (client) => {
  await client.query('BEGIN');
  await client.query('SET LOCAL vector_embed.overlong_text = error');
  const copy = client.query(copyFrom('COPY articles (body) FROM STDIN'));
  await assert.rejects(pipeline(Readable.from(['Short.\n', `${OVERLONG}\n`]), copy), { code: '22001' });
  await client.query('ROLLBACK');
  await client.query(INSERT, ['Next.']);
  await assertAllFresh(1);
}));

test('a timeout ends the statement', () => withClient(async (client) => {
  await client.query('BEGIN');
  await client.query("SET LOCAL statement_timeout = '300ms'");
  await assert.rejects(client.query(ENDLESS), { code: '57014' });
  await client.query('ROLLBACK');
  await client.query(INSERT, ['Next.']);
  await assertAllFresh(1);
}));

test('a cancel ends the statement', () => withClient(async (client) => {
  const pid = await value('SELECT pg_backend_pid()', [], client);
  const ended = assert.rejects(client.query(ENDLESS), { code: '57014' });
  const embeds = "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $1";
  const end = Date.now() + 60_000;
  while (!await value(embeds, [pid])) assert.ok(Date.now() < end, 'the statement never embeds');
  assert.ok(await value('SELECT pg_cancel_backend($1)', [pid]));
  await ended;
  await client.query(INSERT, ['Next.']);
  await assertAllFresh(1);
}));
