/** From a request's bytes to an object of its kind. */
import { ApiError, badRequest } from '../errors.ts'
import { duplicateFields } from './json.ts'
import { decodeProtobuf } from './protobuf.ts'
import { parseYaml } from './yaml.ts'

export { validateShape } from './shape.ts'
export type { FieldValidation } from './shape.ts'

export interface ParsedBody {
  value: unknown
  format: 'json' | 'yaml' | 'protobuf'
  /** Members that were given twice; the last one counted. */
  duplicates: string[]
}

const ACCEPTED = ['application/json', 'application/yaml', 'application/vnd.kubernetes.protobuf']
const utf8 = new TextDecoder('utf-8', { fatal: true })

/**
 * Reads a body by its Content-Type (JSON when missing). Throws BadRequest with the reason for bad syntax,
 * UnsupportedMediaType for other types. The caller bounds the size.
 */
export function parseBody(bytes: Uint8Array, contentType: string | undefined): ParsedBody {
  const semicolon = contentType?.indexOf(';') ?? -1
  const type = (semicolon === -1 ? contentType ?? '' : (contentType as string).slice(0, semicolon)).trim().toLowerCase()
  if (type === 'application/vnd.kubernetes.protobuf') return { value: decodeProtobuf(bytes), format: 'protobuf', duplicates: [] }
  const isJson = type === '' || type === '*/*' || type === 'application/json' || type.endsWith('+json')
  const isYaml = type === 'application/yaml' || type.endsWith('+yaml')
  if (!isJson && !isYaml) {
    throw new ApiError('UnsupportedMediaType',
      `the body of the request was in an unknown format - accepted media types include: ${ACCEPTED.join(', ')}`)
  }
  const text = decodeText(bytes)
  if (isJson) return parseJson(text)
  const { documents, duplicates } = parseYaml(text)
  if (documents.length !== 1) throw badRequest(`the body holds ${documents.length} YAML documents, expected one`)
  return { value: documents[0], format: 'yaml', duplicates }
}

function decodeText(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes)
  } catch {
    throw badRequest('the body is not valid UTF-8')
  }
}

function parseJson(text: string): ParsedBody {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (e) {
    throw badRequest(`the body is not valid JSON: ${text.trim() === '' ? 'it is empty' : (e as Error).message}`)
  }
  try {
    return { value, format: 'json', duplicates: duplicateFields(text) }
  } catch (e) {
    if (e instanceof RangeError) throw badRequest(`the body is not valid JSON: ${e.message}`)
    throw e
  }
}
