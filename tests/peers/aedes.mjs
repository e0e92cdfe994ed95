// A broker of another make than mosquitto: aedes, which speaks MQTT 3.1 and 3.1.1.
//
//     aedes.mjs '{}' | '{"cert": …, "key": …}'
//
// Prints `listening TCP TLS WS WSS`, four ports of loopback; without a certificate those of TLS are 0.
// Prints `client ID` for each that connects. {"user": "name:password"} lets that one alone in.
// Ends with its stdin.
import { readFileSync } from 'node:fs'
import { createServer as createHttp } from 'node:http'
import { createServer as createHttps } from 'node:https'
import { createServer } from 'node:net'
import { createServer as createTls } from 'node:tls'
import aedes from 'aedes'
import { WebSocketServer, createWebSocketStream } from 'ws'

const wish = JSON.parse(process.argv[2])
const broker = aedes()
broker.authenticate = (client, name, password, done) => {
  done(null, !wish.user || `${name}:${password}` === wish.user)
}
broker.on('client', (client) => console.log(`client ${client.id}`))
broker.on('connectionError', () => {})

const paper = wish.cert && { cert: readFileSync(wish.cert), key: readFileSync(wish.key) }
const listen = (server) => new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)))
const frames = (server) => {
  new WebSocketServer({ server }).on('connection', (socket, request) => broker.handle(createWebSocketStream(socket), request))
  return server
}

process.stdin.resume().on('end', () => process.exit())
const ports = [
  await listen(createServer(broker.handle)),
  paper ? await listen(createTls(paper, broker.handle)) : 0,
  await listen(frames(createHttp())),
  paper ? await listen(frames(createHttps(paper))) : 0
]
console.log(`listening ${ports.join(' ')}`)
