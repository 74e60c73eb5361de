from gneiss.cli.main import main

main()
