'use strict'
// A client with today's API of zeromq.js: node modern_client.js ID N HOST PORT
// ID "-" sets no identity on the socket, so that the ROUTER makes one up.
const { Request } = require('zeromq')

async function main() {
  const [id, n, host, port] = process.argv.slice(2)
  const socket = new Request(id === '-' ? {} : { routingId: id })
  socket.connect(`tcp://${host}:${port}`)
  for (let i = 1; i <= Number(n); i++) {
    console.log(`ask ${id}-${i}`)
    await socket.send(`${id}-${i}`)
    const [reply] = await socket.receive()
    console.log(`reply ${reply}`)
  }
  socket.close()
}

main()
