import { test } from 'node:test'
import assert from 'node:assert/strict'
import { expand, expandWords, splitWords } from './words.ts'

const vars: Record<string, string> = { A: 'one', EMPTY: '', P: '80 443', F: 'dir/file.tar.gz' }
const x = (word: string, escape = '\\') => expand(word, n => vars[n], escape)

test('variables and their modifiers', () => {
  const cases: [string, string][] = [
    ['$A', 'one'], ['${A}', 'one'], ['a$A/b', 'aone/b'], ['$NONE', ''], ['${NONE:-d}', 'd'], ['${EMPTY:-d}', 'd'], ['${EMPTY-d}', ''], ['${NONE-d}', 'd'],
    ['${A:+set}', 'set'], ['${EMPTY:+set}', ''], ['${EMPTY+set}', 'set'], ['${NONE+set}', ''], ['${NONE:-${A}}', 'one'], ['${NONE:-"$A b"}', 'one b'],
    ['${A:?no}', 'one'], ['${F#*/}', 'file.tar.gz'], ['${F%.*}', 'dir/file.tar'], ['${F%%.*}', 'dir/file'], ['${F##*.}', 'gz'],
    ['${F/file/x}', 'dir/x.tar.gz'], ['${F//./_}', 'dir/file_tar_gz'], ['\\$A', '$A'], ['\'$A\'', '$A'], ['"$A"', 'one'], ['"\\$A"', '$A'], ['"\\x"', '\\x'],
    ['a"b c"d', 'ab cd'], ['$', '$'], ['a$', 'a$'], ['$A$A', 'oneone'], ['\\', '\\'],
  ]
  for (const [word, want] of cases) assert.equal(x(word), want, word)
  assert.equal(x('`$A', '`'), '$A')
})

test('broken syntax is refused', () => {
  for (const bad of ['${A', '${', '${A:x}', '\'a', '"a', '${NONE:?must be set}', '${-x}']) assert.throws(() => x(bad), { code: 'invalid' }, bad)
  assert.throws(() => x('${NONE:?must be set}'), /NONE: must be set/)
})

test('splitting keeps quotes and escapes together', () => {
  assert.deepEqual(splitWords('a=b  c="d e" f=\'g h\' i=j\\ k', '\\'), ['a=b', 'c="d e"', 'f=\'g h\'', 'i=j\\ k'])
  assert.deepEqual(splitWords('  ', '\\'), [])
  assert.deepEqual(expandWords('$P 8080 "$P"', n => vars[n], '\\'), ['80', '443', '8080', '80 443'])
})

test('variables of variables do not grow without an end', () => {
  let a = 'x'.repeat(1000)
  assert.throws(() => { for (let n = 0; n < 40; n++) a = expand('$A$A', () => a, '\\') }, { code: 'invalid', message: /longer than 1048576 characters/ })
})
