'use strict'
// A worker of the lab with keys: node curve_worker.js ID HOST PORT, and CBW_KEYS, a folder with worker.key_secret and broker.key
const fs = require('fs')
const path = require('path')
const { Request } = require('zeromq')

function keyIn (file, name) {
  return new RegExp(`${name}\\s*=\\s*"([^"]{40})"`).exec(fs.readFileSync(path.join(process.env.CBW_KEYS, file), 'utf8'))[1]
}

async function main () {
  const [id, host, port] = process.argv.slice(2)
  const socket = new Request({
    routingId: id,
    curvePublicKey: keyIn('worker.key_secret', 'public-key'),
    curveSecretKey: keyIn('worker.key_secret', 'secret-key'),
    curveServerKey: keyIn('broker.key', 'public-key')
  })
  socket.connect(`tcp://${host}:${port}`)
  await socket.send(['', ''])
  for await (const [client, request] of socket) {
    await socket.send([client, `${request} ${id}`])
  }
}

main()
