\set question 'How can I improve the photos from my last holiday?'
\pset title :question
\ir question.sql

\set question 'Where do I keep my passwords so that nobody else can read them?'
\pset title :question
\ir question.sql

\set question 'I want to play a board game against the computer'
\pset title :question
\ir question.sql

\set question 'Which program shows what is going over my network?'
\pset title :question
\ir question.sql

\set question 'help me learn the words of a foreign language'
\pset title :question
\ir question.sql
