from twisted.internet import reactor

reactor.callLater(2, print, "two seconds later")
reactor.callLater(1, print, "one second later")
reactor.callLater(3, reactor.stop)

print("before run")
reactor.run()
print("after run")
