from gneiss.cli import main

main()
