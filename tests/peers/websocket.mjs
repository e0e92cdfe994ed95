// WebSockets before a broker that has none: what comes in frames goes to a TCP port of this machine, and back.
//
//     websocket.mjs '{"broker": 1883, …}'
//
// path      the path that is served (default /mqtt); another one gets 404
// header    [name, value] that a client must send; without it the answer is 401
// protocol  false: does not agree to the subprotocol, whatever is offered; else `mqtt` is demanded (400 without)
// crumbs    what the broker says is cut into frames of so many bytes
// cert, key files: with TLS
//
// Prints `listening PORT`, `asked JSON` for each opening request, and `pong` when the client answered a ping.
// Ends with its stdin.
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import { connect } from 'node:net'
import { WebSocketServer } from 'ws'

const wish = { path: '/mqtt', protocol: true, crumbs: 0, ...JSON.parse(process.argv[2]) }
const server = wish.cert
  ? createSecureServer({ cert: readFileSync(wish.cert), key: readFileSync(wish.key) })
  : createServer()
const sockets = new WebSocketServer({
  noServer: true,
  handleProtocols: (offered) => (wish.protocol && offered.has('mqtt') ? 'mqtt' : false)
})

function refusal (request) {
  if (request.url !== wish.path) return '404 Not Found'
  if (wish.header && request.headers[wish.header[0]] !== wish.header[1]) return '401 Unauthorized'
  const offered = (request.headers['sec-websocket-protocol'] ?? '').split(/, */)
  return wish.protocol && !offered.includes('mqtt') ? '400 Bad Request' : null
}

server.on('upgrade', (request, socket, head) => {
  console.log('asked ' + JSON.stringify({ url: request.url, headers: request.headers }))
  const refused = refusal(request)
  if (refused) return socket.end(`HTTP/1.1 ${refused}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`)
  sockets.handleUpgrade(request, socket, head, carry)
})

function carry (client) {
  const broker = connect(wish.broker, '127.0.0.1')
  client.on('message', (data, isBinary) => {
    if (isBinary) broker.write(data)
    else client.close(1003)
  })
  broker.on('data', (data) => {
    const size = wish.crumbs || data.length
    for (let at = 0; at < data.length; at += size) client.send(data.subarray(at, at + size))
  })
  client.on('close', () => broker.end())
  broker.on('close', () => client.close())
  // Either side may break off at any time; `close` follows.
  client.on('error', () => {})
  broker.on('error', () => {})
  client.on('pong', () => console.log('pong'))
  client.ping()
}

process.stdin.resume().on('end', () => process.exit())
server.listen(0, '127.0.0.1', () => console.log(`listening ${server.address().port}`))
