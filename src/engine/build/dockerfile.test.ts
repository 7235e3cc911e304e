import { test } from 'node:test'
import assert from 'node:assert/strict'
import { parseDockerfile } from './dockerfile.ts'

const one = (text: string) => parseDockerfile(`FROM scratch\n${text}`).stages[0]!.instructions[0]!
const invalid = (text: string, message: RegExp) =>
  assert.throws(() => parseDockerfile(text), (e: Error & { code?: string }) => e.code === 'invalid' && message.test(e.message), text)

test('stages, names, platforms and ARGs before FROM', () => {
  const f = parseDockerfile('\uFEFF# comment\nARG V=1\nFROM --platform=linux/amd64 debian:$V AS Build\nRUN a\nfrom build\ncopy --from=build /x /y\n')
  assert.deepEqual(f.globalArgs.map(i => i.args), ['V=1'])
  assert.deepEqual(f.stages.map(s => [s.base, s.name, s.platform, s.instructions.length]), [['debian:$V', 'build', 'linux/amd64', 1], ['build', undefined, undefined, 1]])
  assert.deepEqual(f.stages[1]!.instructions[0]!.flags, [{ name: 'from', value: 'build' }])
  assert.equal(f.stages[1]!.instructions[0]!.args, '/x /y')
})

test('continuations skip comments and tolerate blank lines with a warning', () => {
  const f = parseDockerfile('FROM scratch\nRUN a \\\n# no\n   # no\n  && b \\  \n\n  && c\nCMD ["x"]\n')
  assert.equal(f.stages[0]!.instructions[0]!.args, 'a   && b   && c')
  assert.equal(f.warnings.length, 1)
  assert.equal(f.stages[0]!.instructions[1]!.line, 8)
})

test('the escape directive changes the continuation character', () => {
  const f = parseDockerfile('# escape=`\nFROM scratch\nRUN dir C:\\ `\n  && b\n')
  assert.equal(f.escape, '`')
  assert.equal(f.stages[0]!.instructions[0]!.args, 'dir C:\\   && b')
  invalid('# escape=x\nFROM scratch', /ESCAPE/)
  invalid('# escape=`\n# escape=\\\nFROM scratch', /only one/)
  assert.equal(parseDockerfile('FROM scratch\n# escape=`\nRUN a').escape, '\\')
})

test('JSON forms are told from shell forms', () => {
  assert.deepEqual(one('CMD ["a", "b c"]').json, ['a', 'b c'])
  assert.equal(one('CMD [ "a" -z ]').json, undefined)
  assert.equal(one('CMD [1]').json, undefined)
  assert.deepEqual(one('HEALTHCHECK --interval=5s --retries=2 CMD x').flags, [{ name: 'interval', value: '5s' }, { name: 'retries', value: '2' }])
})

test('here-documents', () => {
  const run = one('RUN <<EOF\necho $x\n# kept\nEOF')
  assert.deepEqual(run.heredocs, [{ name: 'EOF', content: 'echo $x\n# kept\n', literal: false }])
  const copy = one('COPY <<-"a.txt" <<b /dir/\n\tone\na.txt\ntwo\nb')
  assert.deepEqual(copy.heredocs, [{ name: 'a.txt', content: 'one\n', literal: true }, { name: 'b', content: 'two\n', literal: false }])
  invalid('FROM scratch\nRUN <<EOF\nnever ends', /line 2: unterminated heredoc/)
  assert.equal(one('RUN echo $((1<<2))').heredocs.length, 0)
})

test('errors name the line', () => {
  invalid('', /cannot be empty/)
  invalid('ARG x=1', /no FROM/)
  invalid('RUN x', /line 1: no build stage/)
  invalid('FROM scratch\n\nFOO bar', /line 3: unknown instruction: FOO/)
  invalid('FROM a b', /line 1: FROM requires/)
  invalid('FROM a AS x\nFROM b AS X', /line 2: duplicate name x/)
  invalid('FROM a AS 1x', /invalid name for build stage/)
  invalid('FROM scratch\nENV', /ENV requires at least one argument/)
})
