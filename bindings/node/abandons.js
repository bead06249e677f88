// Leaves without a word, as programs do that crash: the mapping is removed all the same. For the tests.
'use strict';

const { Session } = require('./plum');

const session = new Session();
session.map('tcp', 8000).ready().then(() => {
  console.log('mapped');
  process.exit(3);
});
